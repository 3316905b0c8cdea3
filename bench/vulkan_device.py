"""Compute shaders in SPIR-V on a device of Vulkan, by the package vulkan: what its compiler says of them, and runs.

wgpu, which runs the WGSL decoders, takes neither extensions of SPIR-V nor says what a driver's compiler does. RADV, the
driver for AMD GPUs, compiles without one where RADV_FORCE_FAMILY names it; such a device runs nothing.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.spirv import Module
from common.errors import one_line
from shaders.device import NoDevice

STATISTICS = "VK_KHR_pipeline_executable_properties"
COOPERATIVE = "VK_NV_cooperative_vector"
REPLICATED = "VK_EXT_shader_replicated_composites"  # which Slang's SPIR-V with cooperative vectors uses
# extension -> VkStructureType of its features, booleans in them; they come after the package's latest release
FEATURES = {STATISTICS: (1000269000, 1), COOPERATIVE: (1000491000, 2), REPLICATED: (1000564000, 1)}
CORE_FEATURES = {1000059000: 55, 49: 12, 51: 47, 53: 15}  # VkPhysicalDeviceFeatures2, and those of Vulkan 1.1, 1.2, 1.3
SAMPLER, COMBINED, IMAGE, BUFFER = 0, 1, 2, 7  # VkDescriptorType
TEXTURE_FORMATS = {1: 9, 2: 16, 4: 37, 8: 131}  # channels, or bytes of a BC1 block -> VkFormat
FENCE_NS = 60_000_000_000


@dataclass(frozen=True)
class Binding:
    """A resource of a module."""

    name: str
    space: int
    index: int
    kind: int  # VkDescriptorType


def bindings_of(module: Module) -> list[Binding]:
    """The resources that a SPIR-V module declares."""
    found = []
    for variable, (pointer, storage) in module.globals.items():
        place = module.places.get(variable)
        if place is None:
            continue
        pointee = module.types[pointer][1][1]
        name = module.names.get(variable) or module.names.get(pointee, "")
        kind = {25: IMAGE, 26: SAMPLER, 27: COMBINED}.get(module.types[pointee][0], BUFFER)
        if kind == BUFFER and storage not in (2, 12):  # Uniform with BufferBlock, StorageBuffer
            raise NotImplementedError(f"a resource of SPIR-V storage class {storage}")
        found.append(Binding(name, *place, kind))
    return found


class VulkanDevice:
    """The first GPU of Vulkan, or what stands in for one. Raises: NoDevice where there is none, or no package."""

    def __init__(self) -> None:
        with contextlib.suppress(ImportError):
            import triton  # noqa: F401  # of PyTorch: its LLVM crashes when it is loaded after that of a CPU's driver
        try:
            import vulkan
        except (ImportError, OSError) as error:
            raise NoDevice(f"expected the package vulkan and libvulkan, found {one_line(str(error))[:80]}") from error
        self.vk = vk = vulkan
        application = vk.VkApplicationInfo(apiVersion=vk.VK_MAKE_VERSION(1, 3, 0))
        try:
            self.instance = vk.vkCreateInstance(vk.VkInstanceCreateInfo(pApplicationInfo=application), None)
            devices = list(vk.vkEnumeratePhysicalDevices(self.instance))
        except vk.VkError as error:
            raise NoDevice(f"expected a driver of Vulkan, found {type(error).__name__}") from error
        if not devices:
            raise NoDevice("expected a device of Vulkan, found none")
        order = (vk.VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU, vk.VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU)
        kind = lambda device: vk.vkGetPhysicalDeviceProperties(device).deviceType  # noqa: E731
        self.physical = min(devices, key=lambda device: [*order, kind(device)].index(kind(device)))
        properties = vk.vkGetPhysicalDeviceProperties(self.physical)
        self.name, self.tick_ns = properties.deviceName, properties.limits.timestampPeriod
        self.is_cpu = kind(self.physical) == vk.VK_PHYSICAL_DEVICE_TYPE_CPU
        offered = {e.extensionName for e in vk.vkEnumerateDeviceExtensionProperties(self.physical, None)}
        self.extensions = [name for name in FEATURES if name in offered]
        self._open()

    def _open(self) -> None:
        """The logical device, with every feature that it has, but for checks of bounds."""
        vk, chain = self.vk, self.vk.ffi.NULL
        kinds = [(*FEATURES[name],) for name in self.extensions] + [*CORE_FEATURES.items()][::-1]
        self._kept = []
        for kind, count in kinds:
            memory = vk.ffi.new("uint32_t[]", 4 + count + 1)
            memory[0] = kind
            vk.ffi.cast("void**", memory)[1] = chain
            chain = vk.ffi.cast("void*", memory)
            self._kept.append(memory)
        vk.vkGetPhysicalDeviceFeatures2(self.physical, vk.ffi.cast("VkPhysicalDeviceFeatures2*", chain))
        memory[4] = 0  # robustBufferAccess, the first of VkPhysicalDeviceFeatures
        queue = vk.VkDeviceQueueCreateInfo(queueFamilyIndex=0, queueCount=1, pQueuePriorities=[1.0])
        self.device = vk.vkCreateDevice(self.physical, vk.VkDeviceCreateInfo(
            pNext=chain, queueCreateInfoCount=1, pQueueCreateInfos=[queue], enabledExtensionCount=len(self.extensions),
            ppEnabledExtensionNames=self.extensions,
        ), None)  # fmt: skip
        self.queue = vk.vkGetDeviceQueue(self.device, 0, 0)
        self.memories = vk.vkGetPhysicalDeviceMemoryProperties(self.physical)

    def allocate(self, needs: Any, flags: int) -> Any:
        """Memory for the requirements of a buffer or an image."""
        vk = self.vk
        for index in range(self.memories.memoryTypeCount):
            if needs.memoryTypeBits >> index & 1 and self.memories.memoryTypes[index].propertyFlags & flags == flags:
                info = vk.VkMemoryAllocateInfo(allocationSize=needs.size, memoryTypeIndex=index)
                return vk.vkAllocateMemory(self.device, info, None)
        raise NoDevice(f"{self.name} has no memory for a buffer or a texture")

    def buffer(self, data: bytes) -> tuple[Any, memoryview]:
        """(a storage buffer that holds these bytes, the same bytes as the host sees them)."""
        vk = self.vk
        usage = vk.VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | vk.VK_BUFFER_USAGE_TRANSFER_SRC_BIT
        buffer = vk.vkCreateBuffer(self.device, vk.VkBufferCreateInfo(size=max(len(data), 4), usage=usage), None)
        host = vk.VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | vk.VK_MEMORY_PROPERTY_HOST_COHERENT_BIT
        memory = self.allocate(vk.vkGetBufferMemoryRequirements(self.device, buffer), host)
        vk.vkBindBufferMemory(self.device, buffer, memory, 0)
        view = vk.vkMapMemory(self.device, memory, 0, max(len(data), 4), 0)
        view[: len(data)] = data
        return buffer, view

    def submit(self, record: Any) -> None:
        """Record commands, run them, and wait until they are done."""
        vk = self.vk
        pool = vk.vkCreateCommandPool(self.device, vk.VkCommandPoolCreateInfo(queueFamilyIndex=0), None)
        commands = vk.vkAllocateCommandBuffers(self.device, vk.VkCommandBufferAllocateInfo(
            commandPool=pool, level=vk.VK_COMMAND_BUFFER_LEVEL_PRIMARY, commandBufferCount=1))[0]  # fmt: skip
        vk.vkBeginCommandBuffer(commands, vk.VkCommandBufferBeginInfo())
        record(commands)
        vk.vkEndCommandBuffer(commands)
        fence = vk.vkCreateFence(self.device, vk.VkFenceCreateInfo(), None)
        vk.vkQueueSubmit(self.queue, 1, [vk.VkSubmitInfo(commandBufferCount=1, pCommandBuffers=[commands])], fence)
        vk.vkWaitForFences(self.device, 1, [fence], True, FENCE_NS)
        vk.vkDestroyCommandPool(self.device, pool, None)

    def texture(self, levels: Sequence[np.ndarray]) -> Any:
        """A view of a texture: (H, W, C) uint8 of each level, or blocks of BC1 (H / 4, W / 4, 8)."""
        vk, channels = self.vk, levels[0].shape[2]
        side = 4 if channels == 8 else 1
        sizes = [(max(levels[0].shape[1] * side >> k, 1), max(levels[0].shape[0] * side >> k, 1))
                 for k in range(len(levels))]  # fmt: skip
        image = vk.vkCreateImage(self.device, vk.VkImageCreateInfo(
            imageType=vk.VK_IMAGE_TYPE_2D, format=TEXTURE_FORMATS[channels], extent=vk.VkExtent3D(*sizes[0], 1),
            mipLevels=len(levels), arrayLayers=1, samples=1, tiling=vk.VK_IMAGE_TILING_OPTIMAL,
            usage=vk.VK_IMAGE_USAGE_SAMPLED_BIT | vk.VK_IMAGE_USAGE_TRANSFER_DST_BIT,
        ), None)  # fmt: skip
        needs = vk.vkGetImageMemoryRequirements(self.device, image)
        vk.vkBindImageMemory(self.device, image, self.allocate(needs, vk.VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT), 0)
        whole = vk.VkImageSubresourceRange(vk.VK_IMAGE_ASPECT_COLOR_BIT, 0, len(levels), 0, 1)
        regions, at = [], 0
        for mip, (level, size) in enumerate(zip(levels, sizes)):
            layers = vk.VkImageSubresourceLayers(vk.VK_IMAGE_ASPECT_COLOR_BIT, mip, 0, 1)
            regions.append(vk.VkBufferImageCopy(bufferOffset=at, imageSubresource=layers,
                                                imageExtent=vk.VkExtent3D(*size, 1)))  # fmt: skip
            at += -(-level.nbytes // 16) * 16
        source, _ = self.buffer(b"".join(level.tobytes() + bytes(-level.nbytes % 16) for level in levels))
        general = vk.VK_IMAGE_LAYOUT_GENERAL

        def record(commands: Any) -> None:
            barrier = vk.VkImageMemoryBarrier(oldLayout=0, newLayout=general, image=image, subresourceRange=whole)
            first, last = vk.VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, vk.VK_PIPELINE_STAGE_TRANSFER_BIT
            vk.vkCmdPipelineBarrier(commands, first, last, 0, 0, None, 0, None, 1, [barrier])
            vk.vkCmdCopyBufferToImage(commands, source, image, general, len(regions), regions)

        self.submit(record)
        return vk.vkCreateImageView(self.device, vk.VkImageViewCreateInfo(
            image=image, viewType=vk.VK_IMAGE_VIEW_TYPE_2D, format=TEXTURE_FORMATS[channels], subresourceRange=whole
        ), None)  # fmt: skip

    def sampler(self) -> Any:
        """Repeat, bilinear, linear between mips."""
        return self.vk.vkCreateSampler(self.device, self.vk.VkSamplerCreateInfo(
            magFilter=1, minFilter=1, mipmapMode=1, maxLod=1000.0), None)  # fmt: skip


class ComputeProgram:
    """A compute pipeline of a SPIR-V module with one entry point, compiled by a device's driver."""

    def __init__(self, device: VulkanDevice, spirv: bytes, entry: str = "main"):
        self.device, self.vk = device, device.vk
        vk, handle = device.vk, device.device
        self.bindings = bindings_of(Module(spirv))
        module = vk.vkCreateShaderModule(handle, vk.VkShaderModuleCreateInfo(codeSize=len(spirv), pCode=spirv), None)
        self.layouts = []
        for space in range(max(binding.space for binding in self.bindings) + 1):
            slots = [vk.VkDescriptorSetLayoutBinding(binding.index, binding.kind, 1, vk.VK_SHADER_STAGE_COMPUTE_BIT)
                     for binding in self.bindings if binding.space == space]  # fmt: skip
            info = vk.VkDescriptorSetLayoutCreateInfo(bindingCount=len(slots), pBindings=slots)
            self.layouts.append(vk.vkCreateDescriptorSetLayout(handle, info, None))
        info = vk.VkPipelineLayoutCreateInfo(setLayoutCount=len(self.layouts), pSetLayouts=self.layouts)
        self.layout = vk.vkCreatePipelineLayout(handle, info, None)
        stage = vk.VkPipelineShaderStageCreateInfo(stage=vk.VK_SHADER_STAGE_COMPUTE_BIT, module=module, pName=entry)
        flags = vk.VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR if STATISTICS in device.extensions else 0
        info = vk.VkComputePipelineCreateInfo(flags=flags, stage=stage, layout=self.layout)
        self.pipeline = vk.vkCreateComputePipelines(handle, None, 1, [info], None)[0]

    def statistics(self) -> dict[str, int]:
        """What the driver says of the program, by its own names; nothing where it does not."""
        vk, device = self.vk, self.device
        if STATISTICS not in device.extensions:
            return {}
        ask = vk.vkGetDeviceProcAddr(device.device, "vkGetPipelineExecutableStatisticsKHR")
        found = ask(device.device, vk.VkPipelineExecutableInfoKHR(pipeline=self.pipeline, executableIndex=0))
        return {one.name: int(one.value.u64) for one in found if one.format == 2}  # UINT64

    def run(
        self, resources: Mapping[str, Sequence[np.ndarray] | bytes], groups: tuple[int, int], rounds: int = 1
    ) -> tuple[dict[str, bytes], list[float]]:
        """Run the program some times.

        resources: name -> the levels of a texture, or the bytes of a buffer.
        groups: of threads, across and down.
        Returns: what the buffers hold then; seconds of each round, by the device's own clock.
        """
        vk, device = self.vk, self.device
        sets, views = self._bind(resources)
        pool = vk.vkCreateQueryPool(
            device.device, vk.VkQueryPoolCreateInfo(queryType=vk.VK_QUERY_TYPE_TIMESTAMP, queryCount=2), None
        )
        seconds = []
        for _ in range(rounds):
            def record(commands: Any) -> None:
                vk.vkCmdResetQueryPool(commands, pool, 0, 2)
                vk.vkCmdBindPipeline(commands, vk.VK_PIPELINE_BIND_POINT_COMPUTE, self.pipeline)
                vk.vkCmdBindDescriptorSets(commands, vk.VK_PIPELINE_BIND_POINT_COMPUTE, self.layout, 0, len(sets),
                                           sets, 0, None)  # fmt: skip
                vk.vkCmdWriteTimestamp(commands, vk.VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, pool, 0)
                vk.vkCmdDispatch(commands, *groups, 1)
                vk.vkCmdWriteTimestamp(commands, vk.VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, pool, 1)

            device.submit(record)
            answer = vk.ffi.new("char[16]")
            wait = vk.VK_QUERY_RESULT_64_BIT | vk.VK_QUERY_RESULT_WAIT_BIT
            vk.vkGetQueryPoolResults(device.device, pool, 0, 2, 16, answer, 8, wait)
            first, last = struct.unpack("<2Q", vk.ffi.buffer(answer, 16))
            seconds.append((last - first) * device.tick_ns * 1e-9)
        return {name: bytes(view) for name, view in views.items()}, seconds

    def _bind(self, resources: Mapping[str, Sequence[np.ndarray] | bytes]) -> tuple[list[Any], dict[str, Any]]:
        """(descriptor sets of the resources, name of a buffer -> its bytes as the host sees them)."""
        vk, device = self.vk, self.device
        kinds = (SAMPLER, COMBINED, IMAGE, BUFFER)
        sizes = [vk.VkDescriptorPoolSize(kind, 32) for kind in kinds]
        pool = vk.vkCreateDescriptorPool(device.device, vk.VkDescriptorPoolCreateInfo(
            maxSets=len(self.layouts), poolSizeCount=len(sizes), pPoolSizes=sizes), None)  # fmt: skip
        sets = vk.vkAllocateDescriptorSets(device.device, vk.VkDescriptorSetAllocateInfo(
            descriptorPool=pool, descriptorSetCount=len(self.layouts), pSetLayouts=self.layouts))  # fmt: skip
        sets, views, writes = list(sets), {}, []
        for binding in self.bindings:
            more: dict[str, Any] = {}
            if binding.kind == BUFFER:
                buffer, views[binding.name] = device.buffer(resources[binding.name])
                more["pBufferInfo"] = [vk.VkDescriptorBufferInfo(buffer, 0, len(resources[binding.name]))]
            else:
                sampler = device.sampler() if binding.kind != IMAGE else None
                view = device.texture(resources[binding.name]) if binding.kind != SAMPLER else None
                more["pImageInfo"] = [vk.VkDescriptorImageInfo(sampler, view, vk.VK_IMAGE_LAYOUT_GENERAL)]
            writes.append(vk.VkWriteDescriptorSet(dstSet=sets[binding.space], dstBinding=binding.index,
                                                  descriptorCount=1, descriptorType=binding.kind, **more))  # fmt: skip
        vk.vkUpdateDescriptorSets(device.device, len(writes), writes, 0, None)
        return sets, views
