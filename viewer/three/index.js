export { GLTFNeuralTextureExtension } from "./GLTFNeuralTextureExtension.js";
export { FILTERS, applyNeuralTexture, shadowMaterials } from "./NeuralMaterial.js";
export { NeuralTexture } from "./NeuralTexture.js";
export { NeuralTextureLoader } from "./NeuralTextureLoader.js";
