#include "level_search.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <numeric>

#include "pool.h"

namespace nt {
namespace {

// Indices without neighbours along an axis: every other one, and the last of an odd number by itself.
std::vector<std::vector<int>> classes(int count) {
    std::vector<std::vector<int>> found(3);
    for (int i = 0; i < count; i++) found[count % 2 && i == count - 1 ? 2 : i % 2].push_back(i);
    return found;
}

inline float wanted(const nt_material& material, int64_t texel, int column) {
    if (column < material.columns8) return float(material.codes8[texel * material.columns8 + column]) / 255.0f;
    return float(material.codes16[texel * material.columns16 + column - material.columns8]) / 65535.0f;
}

}  // namespace

LevelSearch::Searcher::Searcher(const Shape& shape)
    : work(shape), corners(BLOCK * shape.grids.size()), gradient(align_up(shape.feature_columns, V) * BLOCK) {}

LevelSearch::Axis::Axis(int cells, int size) : starts(cells + 1) {
    std::vector<int32_t> cell(size);
    for (int i = 0; i < size; i++) {
        cell[i] = int32_t(Neighbours(cells, (float(i) + 0.5f) / float(size)).first);
        starts[cell[i] + 1]++;
    }
    for (size_t c = 0; c + 1 < starts.size(); c++) starts[c + 1] += starts[c];
    members.resize(size);
    std::vector<int32_t> next(starts.begin(), starts.end() - 1);
    for (int i = 0; i < size; i++) members[next[cell[i]]++] = i;
}

LevelSearch::LevelSearch(const nt_model& model, const nt_material& material, float* const* parameters,
                         const float* weights, const float* channel_weights, const float* lod_weights,
                         int first_grid, int planes, int level)
    : shape_(model),
      network_(shape_),
      planes_(planes),
      grid_(shape_.grids[first_grid]),
      level_(grid_.levels[level]),
      first_grid_(first_grid),
      parameters_(parameters),
      material_(material),
      channel_weights_(channel_weights, channel_weights + model.n_channels),
      lod_weights_(lod_weights, lod_weights + model.num_lods) {
    network_.pack_all(weights, shape_.integer() ? 8 : 32);  // the caller has rounded them
    for (int g = 0; g < model.n_grids; g++) sources_.push_back({parameters[g]});
    for (int lod = 0; lod < model.num_lods; lod++)
        if (grid_.lods[lod].offset == level_.offset)
            lods_.push_back(
                {lod, Axis(level_.width, material.widths[lod]), Axis(level_.height, material.heights[lod])});
}

int64_t LevelSearch::sweep(int n_threads) {
    std::atomic<int64_t> changed{0};
    std::vector<std::unique_ptr<Searcher>> searchers(n_threads);
    for (const std::vector<int>& rows : classes(level_.down))
        for (const std::vector<int>& columns : classes(level_.across))
            run_tasks(n_threads, columns.empty() ? 0 : long(rows.size()), [&](long task, int thread) {
                auto& searcher = searchers[thread];
                if (!searcher) searcher = std::make_unique<Searcher>(shape_);
                int64_t here = 0;
                for (const int x : columns) {
                    collect(x, rows[task], *searcher);
                    if (!searcher->places.empty() && searcher->places.size() <= NT_SEARCH_REACH)
                        here += search_unit(x, rows[task], *searcher);
                }
                changed.fetch_add(here, std::memory_order_relaxed);
            });
    return changed;
}

// The cells of an axis of so many texels that read a column (or row) of units: its own texels, and the one before, if it
// is not of them.
std::vector<int> LevelSearch::cells(int unit, int texels) const {
    const int side = grid_.side, first = unit * side;
    std::vector<int> found;
    for (int cell = first; cell < std::min(first + side, texels); cell++) found.push_back(cell);
    if (texels > side) found.push_back((first + texels - 1) % texels);
    return found;
}

// Lists the texels of the material that read the unit in column x of row y.
void LevelSearch::collect(int x, int y, Searcher& searcher) const {
    const std::vector<int> xs = cells(x, level_.width), ys = cells(y, level_.height);
    searcher.places.clear();
    searcher.targets.clear();
    for (const Lod& lod : lods_)
        for (const int j : ys)
            for (int32_t row = lod.rows.starts[j]; row < lod.rows.starts[j + 1]; row++)
                for (const int i : xs)
                    for (int32_t column = lod.columns.starts[i]; column < lod.columns.starts[i + 1]; column++) {
                        const int px = lod.columns.members[column], py = lod.rows.members[row];
                        const int64_t texel = material_.offsets[lod.index] + int64_t(py) * material_.widths[lod.index] + px;
                        searcher.places.push_back({px, py, lod.index, {}, {}});
                        for (int c = 0; c < shape_.n_channels; c++)
                            searcher.targets.push_back(wanted(material_, texel, material_.columns[c]));
                    }
    const size_t n_places = searcher.places.size();
    if (searcher.all.size() < n_places) {
        searcher.all.resize(n_places);
        std::iota(searcher.all.begin(), searcher.all.end(), 0);
    }
}

double LevelSearch::look(uint32_t first_texel, Searcher& searcher) const {
    const long n_grids = long(shape_.grids.size()), n_places = long(searcher.places.size());
    const Layer& layer = shape_.layers[0];
    const long stride = align_up(shape_.feature_columns, V);
    const uint32_t unit_texels = grid_.unit_texels;
    float u[BLOCK], v[BLOCK], lod_value[BLOCK];
    int32_t lod[BLOCK];
    searcher.first.resize(n_places * layer.out_stride);
    searcher.tried.resize(n_places * layer.out_stride);
    searcher.inputs.resize(n_places * n_inputs());
    searcher.tried_inputs.resize(n_places * n_inputs());
    searcher.errors.resize(n_places);
    searcher.tried_errors.resize(n_places);
    const long plane_features = long(grid_.features) * unit_texels;
    searcher.by_feature.assign(planes_ * plane_features, 0.0f);
    double error = 0;
    for (long begin = 0; begin < n_places; begin += BLOCK) {
        const long n = std::min<long>(BLOCK, n_places - begin);
        for (long s = 0; s < n; s++) {
            const Place& place = searcher.places[begin + s];
            lod[s] = place.lod;
            lod_value[s] = float(place.lod);
            u[s] = (float(place.x) + 0.5f) / float(material_.widths[place.lod]);
            v[s] = (float(place.y) + 0.5f) / float(material_.heights[place.lod]);
            for (long g = 0; g < n_grids; g++)
                searcher.corners[s * n_grids + g] = locate(shape_.grids[g].lods[lod[s]], u[s], v[s]);
        }
        const Noise silence{0, 0};
        float* inputs = searcher.work.inputs.data();
        encode(shape_, u, v, lod, lod_value, n, inputs);
        for (long g = 0; g < n_grids; g++)
            gather_grid(shape_.grids[g], true, sources_[g], &silence, &searcher.corners[g], n_grids, n, inputs,
                        shape_.input_stride);
        if (network_.integer) {
            for (long s = 0; s < n; s++)
                std::copy_n(inputs + s * shape_.input_stride + grid_.column, n_inputs(),
                            searcher.inputs.data() + (begin + s) * n_inputs());
            input_bytes(inputs, n * shape_.input_stride);
        }
        Gemm job{};
        job.a = inputs;
        job.lda = layer.in_stride;
        job.b = network_.layers[0].by_input.data();
        job.ldb = layer.out_stride;
        job.c = searcher.first.data() + begin * layer.out_stride;
        job.ldc = layer.out_stride;
        job.rows = n;
        job.depth = layer.inputs;
        job.vectors = layer.out_stride / V;
        gemm(job);
        error += error_of(&searcher.all[begin], job.c, n, searcher, &searcher.errors[begin], true);
        backward(network_, searcher.work, n, nullptr, false, searcher.gradient.data(), stride);
        for (long s = 0; s < n; s++) {
            Place& place = searcher.places[begin + s];
            const Corner& corner = searcher.corners[s * n_grids + first_grid_];
            const float* from = searcher.gradient.data() + s * stride;
            for (int i = 0; i < 4; i++) {
                const uint32_t texel = corner.texel[i] - first_texel;
                place.share[i] = texel >= unit_texels ? 0.0f : grid_.learned ? 1.0f : corner.weight(i);
                if (place.share[i] == 0) continue;
                place.texel[i] = uint8_t(texel);
                for (int p = 0; p < planes_; p++) {
                    float* to = searcher.by_feature.data() + p * plane_features;
                    for (int f = 0; f < grid_.features; f++)
                        to[f * unit_texels + texel] += place.share[i] * from[plane(p).column + grid_.input(i, f)];
                }
            }
        }
    }
    return error;
}

double LevelSearch::error_of(const int32_t* places, const float* sums, long n, Searcher& searcher, double* errors,
                             bool for_backward) const {
    Workspace& work = searcher.work;
    activate(network_, sums, work, n);
    forward(network_, work, n, for_backward, {}, 1);
    const Layer& last = shape_.layers.back();
    double error = 0;
    for (long s = 0; s < n; s++) {
        const float* decoded = work.outputs.back().data() + s * last.out_stride;
        const float* target = searcher.targets.data() + long(places[s]) * shape_.n_channels;
        const float weight = lod_weights_[searcher.places[places[s]].lod], covered = shape_.weight_of(target);
        float sum = 0;
        for (int c = 0; c < shape_.n_channels; c++) {
            const float shown = std::min(std::max(decoded[c], 0.0f), 1.0f), off = shown - target[c];
            const float counts = channel_weights_[c] * (c == shape_.coverage ? 1.0f : covered);
            sum += counts * off * off;
            if (for_backward)
                work.upstream[0][s * shape_.widest + c] = shown == decoded[c] ? 2 * weight * counts * off : 0.0f;
        }
        errors[s] = double(weight) * sum;
        error += errors[s];
    }
    return error;
}

}  // namespace nt
