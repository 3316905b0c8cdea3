#include "code_search.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include "pool.h"

namespace nt {
namespace {

constexpr int TRIED = NT_SEARCH_TRIED, FAILURES = NT_SEARCH_FAILURES;

// Indices without neighbours along an axis: every other one, and the last of an odd number by itself.
std::vector<std::vector<int>> classes(int resolution) {
    std::vector<std::vector<int>> found(3);
    for (int i = 0; i < resolution; i++) found[resolution % 2 && i == resolution - 1 ? 2 : i % 2].push_back(i);
    return found;
}

inline float wanted(const nt_material& material, int64_t texel, int column) {
    if (column < material.columns8) return float(material.codes8[texel * material.columns8 + column]) / 255.0f;
    return float(material.codes16[texel * material.columns16 + column - material.columns8]) / 65535.0f;
}

}  // namespace

// The memory of one thread for the texel that it searches.
struct CodeSearch::Searcher {
    explicit Searcher(const CodeSearch& of)
        : work(of.shape_), corners(BLOCK * of.shape_.grids.size()), gradient(align_up(of.shape_.feature_columns, V) * BLOCK) {}

    struct Place {
        int32_t x, y, lod;
        float share[4];  // of the searched texel in each corner's inputs of the network
    };
    Workspace work;
    std::vector<Corner> corners;
    Buffer<float> gradient;            // of a block's features
    std::vector<Place> places;         // texels of the material that read the searched one
    std::vector<float> targets;        // (places, channels)
    std::vector<float> first, tried;   // (places, out_stride of the first layer): the arguments of its activation
    std::vector<float> by_feature;     // gradient of the error
    std::vector<int> order;
};

CodeSearch::Axis::Axis(const Level& level, int size) : starts(level.resolution + 1) {
    std::vector<int32_t> cell(size);
    for (int i = 0; i < size; i++) {
        const float centre = (float(i) + 0.5f) / float(size);
        cell[i] = int32_t(locate(level, centre, centre).texel[0] - level.offset) % level.resolution;
        starts[cell[i] + 1]++;
    }
    for (size_t c = 0; c + 1 < starts.size(); c++) starts[c + 1] += starts[c];
    members.resize(size);
    std::vector<int32_t> next(starts.begin(), starts.end() - 1);
    for (int i = 0; i < size; i++) members[next[cell[i]]++] = i;
}

CodeSearch::CodeSearch(const nt_model& model, const nt_material& material, float* const* parameters,
                       const float* weights, const float* channel_weights, const float* lod_weights, int grid,
                       int level)
    : shape_(model),
      material_(material),
      network_(shape_),
      parameters_(parameters[grid]),
      channel_weights_(channel_weights, channel_weights + model.n_channels),
      lod_weights_(lod_weights, lod_weights + model.num_lods),
      grid_(shape_.grids[grid]),
      grid_index_(grid),
      level_(grid_.levels[level]) {
    network_.pack_all(weights);
    for (int g = 0; g < model.n_grids; g++) sources_.push_back({parameters[g]});
    for (int lod = 0; lod < model.num_lods; lod++)
        if (grid_.lods[lod].offset == level_.offset)
            lods_.push_back({lod, Axis(level_, material.widths[lod]), Axis(level_, material.heights[lod])});
}

int64_t CodeSearch::sweep(int n_threads) {
    std::atomic<int64_t> changed{0};
    std::vector<std::unique_ptr<Searcher>> searchers(n_threads);
    for (const std::vector<int>& rows : classes(level_.resolution))
        for (const std::vector<int>& columns : classes(level_.resolution))
            run_tasks(n_threads, columns.empty() ? 0 : long(rows.size()), [&](long task, int thread) {
                auto& searcher = searchers[thread];
                if (!searcher) searcher = std::make_unique<Searcher>(*this);
                int64_t here = 0;
                for (const int x : columns) here += search_texel(x, rows[task], *searcher);
                changed.fetch_add(here, std::memory_order_relaxed);
            });
    return changed;
}

// Lists the texels of the material that read texel (x, y): those in the cells around it.
void CodeSearch::collect(int x, int y, Searcher& searcher) const {
    const int r = level_.resolution, n_cells = r > 1 ? 2 : 1;
    const int xs[2] = {x, (x + r - 1) % r}, ys[2] = {y, (y + r - 1) % r};
    searcher.places.clear();
    searcher.targets.clear();
    for (const Lod& lod : lods_)
        for (int j = 0; j < n_cells; j++)
            for (int32_t row = lod.rows.starts[ys[j]]; row < lod.rows.starts[ys[j] + 1]; row++)
                for (int i = 0; i < n_cells; i++)
                    for (int32_t column = lod.columns.starts[xs[i]]; column < lod.columns.starts[xs[i] + 1]; column++) {
                        const int px = lod.columns.members[column], py = lod.rows.members[row];
                        const int64_t texel = material_.offsets[lod.index] + int64_t(py) * material_.widths[lod.index] + px;
                        searcher.places.push_back({px, py, lod.index, {}});
                        for (int c = 0; c < shape_.n_channels; c++)
                            searcher.targets.push_back(wanted(material_, texel, material_.columns[c]));
                    }
}

// Returns the current error of all places. Stores the first layer's sums there, the texel's share of each corner, and
// the gradient of the error by the texel's features.
double CodeSearch::look(uint32_t texel, Searcher& searcher) const {
    const long n_grids = long(shape_.grids.size()), n_places = long(searcher.places.size());
    const Layer& layer = shape_.layers[0];
    const long stride = align_up(shape_.feature_columns, V);
    float u[BLOCK], v[BLOCK], lod_value[BLOCK];
    int32_t lod[BLOCK];
    searcher.first.resize(n_places * layer.out_stride);
    searcher.tried.resize(n_places * layer.out_stride);
    searcher.by_feature.assign(grid_.features, 0.0f);
    double error = 0;
    for (long begin = 0; begin < n_places; begin += BLOCK) {
        const long n = std::min<long>(BLOCK, n_places - begin);
        for (long s = 0; s < n; s++) {
            const Searcher::Place& place = searcher.places[begin + s];
            lod[s] = place.lod;
            lod_value[s] = float(place.lod);
            u[s] = (float(place.x) + 0.5f) / float(material_.widths[place.lod]);
            v[s] = (float(place.y) + 0.5f) / float(material_.heights[place.lod]);
            for (long g = 0; g < n_grids; g++)
                searcher.corners[s * n_grids + g] = locate(shape_.grids[g].lods[lod[s]], u[s], v[s]);
        }
        float* inputs = searcher.work.inputs.data();
        encode(shape_, u, v, lod, lod_value, n, inputs);
        for (long g = 0; g < n_grids; g++)
            gather_grid(shape_.grids[g], true, sources_[g], Noise{0, 0}, &searcher.corners[g], n_grids, n, inputs,
                        shape_.input_stride);
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
        std::copy_n(job.c, n * layer.out_stride, searcher.tried.data() + begin * layer.out_stride);
        error += error_of(begin, n, searcher, true);
        backward(network_, searcher.work, n, nullptr, false, searcher.gradient.data(), stride);
        for (long s = 0; s < n; s++) {
            Searcher::Place& place = searcher.places[begin + s];
            const Corner& corner = searcher.corners[s * n_grids + grid_index_];
            const float* from = searcher.gradient.data() + s * stride + grid_.column;
            for (int i = 0; i < 4; i++) {
                place.share[i] = corner.texel[i] != texel ? 0.0f : grid_.learned ? 1.0f : corner.weight(i);
                if (place.share[i] == 0) continue;
                const float* part = from + (grid_.learned ? i * grid_.features : 0);
                for (int f = 0; f < grid_.features; f++) searcher.by_feature[f] += place.share[i] * part[f];
            }
        }
    }
    return error;
}

// Returns the error of places first .. first + n, at most a block, from the first layer's sums in `tried`.
double CodeSearch::error_of(long first, long n, Searcher& searcher, bool for_backward) const {
    Workspace& work = searcher.work;
    activate(shape_, searcher.tried.data() + first * shape_.layers[0].out_stride, work, n);
    forward(network_, work, n, for_backward, {}, 1);
    const Layer& last = shape_.layers.back();
    double error = 0;
    for (long s = 0; s < n; s++) {
        const float* decoded = work.outputs.back().data() + s * last.out_stride;
        const float* target = searcher.targets.data() + (first + s) * shape_.n_channels;
        const float weight = lod_weights_[searcher.places[first + s].lod];
        float sum = 0;
        for (int c = 0; c < shape_.n_channels; c++) {
            const float shown = std::min(std::max(decoded[c], 0.0f), 1.0f), off = shown - target[c];
            sum += channel_weights_[c] * off * off;
            if (for_backward)
                work.upstream[0][s * shape_.widest + c] = shown == decoded[c] ? 2 * weight * channel_weights_[c] * off : 0.0f;
        }
        error += double(weight) * sum;
    }
    return error;
}

// Returns the error after a feature of the texel moves by `step`; leaves the first layer's sums in `tried`.
double CodeSearch::try_step(int feature, float step, Searcher& searcher) const {
    const long stride = shape_.layers[0].out_stride, n_places = long(searcher.places.size());
    const float* columns = network_.layers[0].by_input.data();
    double error = 0;
    for (long begin = 0; begin < n_places; begin += BLOCK) {
        const long n = std::min<long>(BLOCK, n_places - begin);
        for (long s = begin; s < begin + n; s++) {
            const float* from = searcher.first.data() + s * stride;
            float* to = searcher.tried.data() + s * stride;
            std::copy_n(from, stride, to);
            for (int i = 0; i < 4; i++) {
                const float share = searcher.places[s].share[i];
                if (share == 0) continue;
                const long column = grid_.column + (grid_.learned ? i * grid_.features : 0) + feature;
                for (long k = 0; k < stride; k += V)
                    store(to + k, load(to + k) + load(columns + column * stride + k) * (share * step));
            }
        }
        error += error_of(begin, n, searcher, false);
    }
    return error;
}

int64_t CodeSearch::search_texel(int x, int y, Searcher& searcher) const {
    collect(x, y, searcher);
    if (searcher.places.empty() || searcher.places.size() > NT_SEARCH_REACH) return 0;
    const uint32_t texel = level_.offset + uint32_t(y) * level_.resolution + x;
    double least = look(texel, searcher);
    float* const features = parameters_ + size_t(texel) * grid_.features;
    const float step = 1 / float(1 << grid_.bits), limit = 0.5f - 0.5f * step;
    searcher.order.clear();
    for (int f = 0; f < grid_.features; f++) searcher.order.push_back(f);
    std::stable_sort(searcher.order.begin(), searcher.order.end(), [&](int a, int b) {
        return std::abs(searcher.by_feature[a]) > std::abs(searcher.by_feature[b]);
    });
    int64_t changed = 0;
    int tried = 0, failures = 0;
    for (const int f : searcher.order) {
        if (tried == TRIED || failures == FAILURES || searcher.by_feature[f] == 0) break;
        const float value = round_feature<1>(Lanes<1>::floats{features[f]}, grid_.bits)[0];
        const float direction = searcher.by_feature[f] > 0 ? -step : step;
        if (std::abs(value + direction) > limit) continue;
        tried++;
        const double error = try_step(f, direction, searcher);
        failures++;
        if (!(error < least)) continue;
        failures = 0;
        least = error;
        features[f] = value + direction;
        std::swap(searcher.first, searcher.tried);
        changed++;
    }
    return changed;
}

}  // namespace nt
