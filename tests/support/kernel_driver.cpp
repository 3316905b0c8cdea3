// A program that loads a library of the CPU kernels from its folder, where there is no Python: it runs the self-test,
// gradients, training, code search and decoding on four threads, and writes what they return to a file. It needs no C++
// library, and of the C library only what a dynamic one exports.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <initializer_list>

#include "nt.h"

#if defined(_WIN32)
#include <windows.h>
static void* open_library() { return reinterpret_cast<void*>(LoadLibraryA("kernels.dll")); }
static void* find(void* library, const char* name) {
    return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
#else
#include <dlfcn.h>
static void* open_library() { return dlopen("./kernels.so", RTLD_NOW | RTLD_LOCAL); }
static void* find(void* library, const char* name) { return dlsym(library, name); }
#endif

static void* library;
static FILE* results;

#define CALL(function) reinterpret_cast<decltype(&function)>(find(library, #function))

static void check(bool good, const char* what) {
    if (good) return;
    const char* reason = CALL(nt_failure)();
    for (const char* text : {what, " failed: ", reason, "\n"}) fputs(text, stderr);
    exit(1);
}

static void write_array(const float* values, size_t count) {
    const uint32_t length = uint32_t(count);
    fwrite(&length, sizeof length, 1, results);
    fwrite(values, sizeof(float), count, results);
}

struct Floats {
    explicit Floats(size_t n) : count(n), values(static_cast<float*>(calloc(n, sizeof(float)))) {}
    ~Floats() { free(values); }
    Floats(const Floats&) = delete;
    Floats& operator=(const Floats&) = delete;
    void write() const { write_array(values, count); }
    const size_t count;
    float* const values;
};

constexpr int LODS = 6, WIDTH = 48, HEIGHT = 28, WAVES = 6, SAMPLES = 133, CHANNELS = 4, DECODED = 11, THREADS = 4;

struct Case {
    nt_grid grids[2];
    int activation, filtered;
};
static const Case CASES[] = {
    {{{4, 4, 5, 4, 4, 0, 0, 1}, {8, 4, 3, 12, 12, 1, 0, 1}}, 0, 0},  // codes
    {{{4, 4, 5, 4, 2, 0, 0, 1}, {8, 4, 3, 3, 24, 0, 0, 2}}, 1, 1},
    {{{3, 0, 5, 4, 4, 1, 4, 1}, {3, 0, 1, 7, 7, 0, 6, 1}}, 1, 0},  // blocks of BC1 and ASTC
    {{{3, 0, 5, 8, 1, 0, 6, 1}, {3, 0, 3, 5, 3, 0, 4, 2}}, 0, 1},
};

struct Material {
    int32_t widths[LODS], heights[LODS], columns[CHANNELS] = {0, 1, 2, 3};
    int64_t offsets[LODS];
    uint8_t* codes8;
    uint16_t* codes16;
    nt_material view;

    Material() {
        int64_t count = 0;
        for (int l = 0; l < LODS; l++) {
            widths[l] = WIDTH >> l ? WIDTH >> l : 1, heights[l] = HEIGHT >> l ? HEIGHT >> l : 1, offsets[l] = count;
            count += int64_t(widths[l]) * heights[l];
        }
        codes8 = static_cast<uint8_t*>(malloc(count * 3));
        codes16 = static_cast<uint16_t*>(malloc(count * 2));
        for (int64_t i = 0; i < count * 3; i++) codes8[i] = uint8_t(i * 7 % 251);
        for (int64_t i = 0; i < count; i++) codes16[i] = uint16_t(i * 977);
        view = {widths, heights, offsets, codes8, codes16, 3, 1, columns};
    }
    ~Material() { free(codes8), free(codes16); }
};

static size_t parameters_of(const nt_grid& grid) {
    size_t count = 0;
    for (int level = 0; level < grid.n_levels; level++) {
        const size_t width = size_t(grid.base_width) << level, height = size_t(grid.base_height) << level;
        const size_t side = grid.block_side;
        count += side ? (width + side - 1) / side * ((height + side - 1) / side) * (6 + side * side)
                      : width * height * grid.features;
    }
    return count;
}

static void differentiate(const nt_model& model, const Floats& network, float* const* grids) {
    Floats uv(2 * SAMPLES), lod(SAMPLES), upstream(SAMPLES * DECODED), out(SAMPLES * DECODED), of_network(network.count);
    Floats of_first(parameters_of(model.grids[0])), of_second(parameters_of(model.grids[1]));
    for (int s = 0; s < SAMPLES; s++) {
        uv.values[2 * s] = float(s * 89 % 1024 + 0.25) / 1024, uv.values[2 * s + 1] = float(s * 211 % 2048 + 0.25) / 2048;
        lod.values[s] = float(s % (2 * LODS - 1)) / 2;
        if (model.grids[0].learned || model.grids[1].learned) lod.values[s] = floorf(lod.values[s]);
        for (int c = 0; c < CHANNELS; c++) {
            const int channel = model.channels[c];
            upstream.values[s * DECODED + channel] = float((s * 17 + c * 5) % 31) / 16 - 1;
        }
    }
    float* const gradients[2] = {of_first.values, of_second.values};
    const float steps[2] = {0.02f, 0.01f};
    const uint32_t keys[2] = {12345, 67890};
    check(!CALL(nt_gradients)(&model, grids, network.values, SAMPLES, uv.values, lod.values, upstream.values, steps, keys,
                              out.values, gradients, of_network.values),
          "nt_gradients");
    for (const Floats* values : {&out, &of_network, &of_first, &of_second}) values->write();
}

static void train(const nt_model& model, const Case& one, const Material& material, Floats& network, float* const* grids) {
    const float shares[LODS - 1] = {0.6f, 0.8f, 0.9f, 0.94f, 0.97f}, weights[CHANNELS] = {0.25f, 0.25f, 0.25f, 0.25f};
    const double rates[2] = {0.01, 0.02}, factors[3] = {1, 1, 1}, noise[3] = {0.5, 0.5, 0.5};
    const nt_settings settings = {1024, 1, THREADS, shares, weights, nullptr, 0.01, rates, 0.9, 0.99, 1e-12, 2, 0, 0.1f,
                                  one.filtered, 0.5f, 2.0f, 8};
    nt_trainer* trainer = nullptr;
    check(!CALL(nt_trainer_create)(&model, &material.view, &settings, &trainer), "nt_trainer_create");
    CALL(nt_trainer_load_network)(trainer, 998, network.values, nullptr, nullptr);
    for (int g = 0; g < 2; g++) CALL(nt_trainer_load_grid)(trainer, g, 998, grids[g], nullptr, nullptr, nullptr);
    double found[2];
    for (int round = 0; round < 2; round++) {  // the sweep of iteration 1000 is in it
        check(!CALL(nt_trainer_step)(trainer, 3, factors, noise, 1, &found[0]), "nt_trainer_step");
        check(!CALL(nt_trainer_probe)(trainer, -1, &found[1]), "nt_trainer_probe");
        const float both[2] = {float(found[0]), float(found[1])};
        write_array(both, 2);
    }
    CALL(nt_trainer_save_network)(trainer, network.values, nullptr, nullptr);
    for (int g = 0; g < 2; g++) CALL(nt_trainer_save_grid)(trainer, g, grids[g], nullptr, nullptr, nullptr);
    CALL(nt_trainer_destroy)(trainer);
}

static void search(const nt_model& model, const Material& material, const Floats& network, float* const* grids) {
    const float weights[CHANNELS] = {0.25f, 0.25f, 0.25f, 0.25f}, lod_weights[LODS] = {1, 1, 1, 1, 1, 1};
    for (int g = 0; g < 2; g++) {
        int64_t changed = 0;
        check(!CALL(nt_search_codes)(&model, &material.view, grids, network.values, weights, lod_weights, g, 1, 0, THREADS,
                                     &changed),
              "nt_search_codes");
        check(changed > 0, "a search that changes codes");
    }
}

static void run(const Case& one, const Material& material) {
    const int32_t channels[CHANNELS] = {0, 1, 2, 10};
    const nt_model model = {one.grids, 2, WAVES, 3, 32, 2, LODS, 1, 1, CHANNELS, channels, one.activation, 0.01f, DECODED, -1};
    int inputs = 2 * WAVES + 1;
    for (const nt_grid& grid : one.grids) inputs += grid.features * (grid.learned ? 4 : 1);
    inputs = 16 * ((inputs + 15) / 16) + 16;
    Floats network(size_t(inputs * 32 + 32 * 32 + 32 * 16)), first(parameters_of(one.grids[0])), second(parameters_of(one.grids[1]));
    for (size_t i = 0; i < network.count; i++) network.values[i] = float(i * 37 % 101) / 250 - 0.2f;
    for (Floats* grid : {&first, &second})
        for (size_t i = 0; i < grid->count; i++) grid->values[i] = float(i * 59 % 997) / 1000 - 0.5f;
    float* const grids[2] = {first.values, second.values};
    Floats image(size_t(WIDTH) * HEIGHT * DECODED);
    const auto decode = [&] {
        check(!CALL(nt_decode_rows)(&model, grids, network.values, 0, WIDTH, HEIGHT, 0, HEIGHT, THREADS, image.values),
              "nt_decode_rows");
        image.write();
    };
    differentiate(model, network, grids);
    decode();
    train(model, one, material, network, grids);
    decode();
    search(model, material, network, grids);
    decode();
}

static int drive() {
    library = open_library();
    if (!library) fputs("the library cannot be loaded\n", stderr), exit(1);
    check(CALL(nt_interface)() == NT_INTERFACE, "the interface");
    check(!CALL(nt_self_test)(), "nt_self_test");
    results = fopen("results", "wb");
    check(results, "opening the file of results");
    const Material material;
    for (const Case& one : CASES) run(one, material);
    check(!fclose(results), "writing");
    return 0;
}

#if defined(_WIN32)
extern "C" void mainCRTStartup() { exit(drive()); }  // a program begins there without the C library's start-up code
#else
int main() { return drive(); }
#endif
