// The canonical channels of a material.

const MAPS = [["diffuse", 3], ["normal", 3], ["roughness", 1], ["occlusion", 1], ["metallic", 1], ["specular", 1],
    ["displacement", 1]];
const CHANNELS = 11;
const MAP_NAMES = MAPS.map(([name]) => name);
const FIRST_CHANNEL = MAPS.map((_, i) => MAPS.slice(0, i).reduce((sum, [, count]) => sum + count, 0));
