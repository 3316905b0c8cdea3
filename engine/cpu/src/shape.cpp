#include "shape.h"

#include <algorithm>
#include <cmath>

#include "block_formats.h"

namespace nt {
namespace {

bool same_shape(const nt_grid& a, const nt_grid& b) {
    return a.n_levels == b.n_levels && a.base_width == b.base_width && a.base_height == b.base_height &&
           a.learned == b.learned && a.block_side == b.block_side && a.finest_lods == b.finest_lods;
}

// The largest power of two that is not above n, at most MOST_PLANES.
int whole_lanes(int n) {
    int lanes = 1;
    while (2 * lanes <= std::min(n, MOST_PLANES)) lanes *= 2;
    return lanes;
}

// The columns of the inputs from a grid, which come in the file's order: plane, corner, feature.
void add_columns(const Grid& grid, int* columns) {
    for (int plane = 0; plane < grid.planes; plane++)
        for (int corner = 0; corner < (grid.learned ? 4 : 1); corner++)
            for (int f = 0; f < grid.features; f++) *columns++ = grid.column + grid.input(corner, f, plane);
}

Grid make_grid(const nt_grid& spec, int num_lods, int column, int first, int planes, bool rounded_shares) {
    Grid grid{};
    grid.first = first;
    grid.planes = planes;
    grid.features = spec.features;
    grid.bits = spec.bits;
    grid.learned = spec.learned != 0;
    grid.side = std::max(spec.block_side, 1);
    grid.unit_texels = grid.side * grid.side;
    grid.unit_parameters = grid.blocks() ? FIRST_WEIGHT + grid.unit_texels : grid.features;
    grid.inputs = planes * spec.features * (grid.learned ? 4 : 1);
    grid.column = column;
    grid.n_levels = spec.n_levels;
    int64_t offset = 0;
    for (int level = 0; level < spec.n_levels; level++) {
        const int32_t width = spec.base_width << level, height = spec.base_height << level;
        const int32_t across = (width + grid.side - 1) / grid.side, down = (height + grid.side - 1) / grid.side;
        grid.levels.push_back({width, height, uint32_t(offset), grid.side, across, down, rounded_shares});
        offset += int64_t(across) * down * grid.unit_texels;
    }
    grid.units = offset / grid.unit_texels;
    for (int lod = 0; lod < num_lods; lod++) {
        const int mip = std::min(std::max(lod - spec.finest_lods + 1, 0), spec.n_levels - 1);
        grid.lods.push_back(grid.levels[spec.n_levels - 1 - mip]);
    }
    return grid;
}

// The waves of tiny-cuda-nn's TriangleWave encoding from `first` on: x = coordinate * 2^(i-1) + i/4, per axis.
void add_waves(int first, int count, std::vector<float>& u, std::vector<float>& v, std::vector<float>& shift) {
    for (int axis = 0; axis < 2; axis++)
        for (int i = first; i < count; i++) {
            const float factor = float(std::ldexp(1.0, i - 1));  // Windows on ARM has no ldexpf
            u.push_back(axis == 0 ? factor : 0.0f);
            v.push_back(axis == 0 ? 0.0f : factor);
            shift.push_back(0.25f * i);
        }
    for (auto* list : {&u, &v, &shift}) list->resize(align_up(list->size(), V) + V, 0.0f);
}

// model.sawtooth_waves: the position in texels divided by 1, 2, 4, ..., per axis. Powers of two divide it exactly.
void add_sawtooths(int count, std::vector<float>& u, std::vector<float>& v, std::vector<float>& shift) {
    for (int axis = 0; axis < 2; axis++)
        for (int i = 0; i < count; i++) {
            const float factor = float(std::ldexp(1.0, -i));
            u.push_back(axis == 0 ? factor : 0.0f);
            v.push_back(axis == 0 ? 0.0f : factor);
            shift.push_back(-0.5f * factor);
        }
    for (auto* list : {&u, &v, &shift}) list->resize(align_up(list->size(), V) + V, 0.0f);
}

}  // namespace

const Grid& Shape::grid_of(int model_grid) const {
    size_t g = 0;
    while (g + 1 < grids.size() && grids[g + 1].first <= model_grid) g++;
    return grids[g];
}

Shape::Shape(const nt_model& model, const double* rates)
    : num_lods(model.num_lods),
      n_channels(model.n_channels),
      n_decoded(model.n_decoded),
      coverage(model.coverage),
      quantized(model.quantized != 0),
      any_learned(false),
      hard_swish(model.activation == 1),
      negative_slope(model.negative_slope),
      channels(model.channels, model.channels + model.n_channels) {
    if (const float* ranges = model.activation_ranges)
        activation_ranges.assign(ranges, ranges + 2 * (model.n_hidden_layers + 1));
    int column = 0;
    for (int g = 0; g < model.n_grids; g += grids.back().planes) {
        int planes = 1;
        while (rates && model.grids[g].block_side && g + planes < model.n_grids &&
               same_shape(model.grids[g], model.grids[g + planes]) && rates[g] == rates[g + planes])
            planes++;
        planes = whole_lanes(planes);
        grids.push_back(make_grid(model.grids[g], num_lods, column, g, planes, integer()));
        column += grids.back().inputs;
        any_learned = any_learned || grids.back().learned;
    }
    feature_columns = column;
    const int skipped = model.seamless && model.n_frequencies ? 1 : 0;
    add_waves(skipped, model.n_frequencies, scale_u, scale_v, shift);
    add_sawtooths(model.n_texel_frequencies, texel_scale_u, texel_scale_v, texel_shift);
    first_wave = feature_columns;
    n_waves = 2 * (model.n_frequencies - skipped);
    lod_column = first_wave + n_waves;
    n_texel_waves = 2 * model.n_texel_frequencies;
    first_texel_wave = lod_column + 1;
    const int reference_inputs = 2 * model.n_frequencies + feature_columns + 1;
    const int padded = int(align_up(reference_inputs, ALIGNMENT));
    const int file_inputs = padded + int(align_up(n_texel_waves, ALIGNMENT));
    const bool ones = file_inputs > reference_inputs + n_texel_waves;
    ones_column = ones ? first_texel_wave + n_texel_waves : -1;

    std::vector<int> columns(file_inputs, ones_column);
    for (int axis = 0; axis < 2; axis++)
        for (int i = 0; i < model.n_frequencies; i++)
            columns[axis * model.n_frequencies + i] =
                i < skipped ? -1 : first_wave + axis * (model.n_frequencies - skipped) + i - skipped;
    for (const Grid& grid : grids) add_columns(grid, &columns[2 * model.n_frequencies + grid.column]);
    columns[reference_inputs - 1] = lod_column;
    for (int i = 0; i < n_texel_waves; i++) columns[padded + i] = first_texel_wave + i;

    int64_t file_offset = 0, gradient_offset = 0;
    int inputs = first_texel_wave + n_texel_waves + ones, padded_inputs = file_inputs;
    widest = 0;
    for (int l = 0; l <= model.n_hidden_layers; l++) {
        const bool last = l == model.n_hidden_layers;
        Layer layer{};
        layer.inputs = inputs;
        layer.outputs = last ? n_channels : model.n_neurons;
        layer.in_stride = align_up(inputs, V);
        layer.out_stride = align_up(layer.outputs, V);
        layer.file_inputs = padded_inputs;
        layer.file_outputs = last ? PADDED_OUTPUTS : model.n_neurons;
        layer.file_offset = file_offset;
        layer.gradient_offset = gradient_offset;
        layer.gradient_columns = l == 0 ? feature_columns : inputs;
        for (int row = 0; row < layer.outputs; row++) layer.file_row.push_back(last ? channels[row] : row);
        if (l == 0) {
            layer.column = columns;
        } else {
            for (int i = 0; i < inputs; i++) layer.column.push_back(i);
        }
        file_offset += int64_t(layer.file_inputs) * layer.file_outputs;
        gradient_offset += layer.in_stride * layer.outputs;
        widest = std::max({widest, layer.in_stride, layer.out_stride});
        inputs = padded_inputs = model.n_neurons;
        layers.push_back(std::move(layer));
    }
    file_weights = file_offset;
    gradient_size = gradient_offset;
    input_stride = layers[0].in_stride;
}

}  // namespace nt
