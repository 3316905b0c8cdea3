// Code search: improves the codes of a trained model, as engine/torch/code_search.py does.
#pragma once

#include "level_search.h"

namespace nt {

// The search of packed codes. For each texel, features are tried in order of the size of the gradient of the squared
// error: one code up or down, against the gradient. What lowers the error stays.
class CodeSearch : public LevelSearch {
  public:
    using LevelSearch::LevelSearch;

  protected:
    int64_t search_unit(int x, int y, Searcher& searcher) const override;

  private:
    double try_step(int feature, float step, Searcher& searcher) const;
};

}  // namespace nt
