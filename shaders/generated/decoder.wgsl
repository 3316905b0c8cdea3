// Generated from shaders/decoder.slang by shaders/generate.py; do not edit.

fn ntTriangleWave( coordinate_0 : f32,  octave_0 : i32) -> f32
{
    var x_0 : f32 = coordinate_0 * (0.5f * f32((u32(1) << (u32(octave_0))))) + 0.25f * f32(octave_0);
    return 4.0f * abs(x_0 - floor(x_0) - 0.5f) - 1.0f;
}

fn ntMipOf( grid_0 : i32,  lod_0 : i32) -> i32
{
    return min(max(lod_0 - (ntGridSharedLods((grid_0))), i32(0)), (ntGridMips((grid_0))) - i32(1));
}

fn ntWrap( texel_0 : i32,  resolution_0 : i32) -> i32
{
    var _S1 : i32;
    if(texel_0 < i32(0))
    {
        _S1 = texel_0 + resolution_0;
    }
    else
    {
        if(texel_0 >= resolution_0)
        {
            _S1 = texel_0 - resolution_0;
        }
        else
        {
            _S1 = texel_0;
        }
    }
    return _S1;
}

fn ntLoadWord( grid_1 : i32,  texel_1 : vec2<i32>,  mip_0 : i32) -> vec2<u32>
{
    var word_0 : vec2<u32> = vec2<u32>(u32(0), u32(0));
    var plane_0 : i32 = i32(0);
    while(plane_0 < (ntGridPlanes((grid_1))))
    {
        var _S2 : vec4<u32> = vec4<u32>((ntFetchTexel((grid_1), (plane_0), (texel_1), (mip_0))) * vec4<f32>(255.0f) + vec4<f32>(0.5f));
        var packed_0 : u32 = ((((((((_S2.x) << (u32(24)))) | ((((_S2.y) << (u32(16))))))) | ((((_S2.z) << (u32(8))))))) | ((_S2.w)));
        if(plane_0 == i32(0))
        {
            word_0[i32(0)] = packed_0;
        }
        else
        {
            word_0[i32(1)] = packed_0;
        }
        plane_0 = plane_0 + i32(1);
    }
    return word_0;
}

//!!! with whole numbers of 8 bits
fn ntHalved( times_0 : i32) -> f32
{
    return (bitcast<f32>(((u32(i32(127) - times_0) << (u32(23))))));
}

//!!! without
//!!! both
fn ntFeatureOf( word_1 : vec2<u32>,  index_0 : i32,  bits_0 : i32) -> f32
{
    var first_0 : i32 = index_0 * bits_0;
    var plane_1 : u32;
    if(first_0 < i32(32))
    {
        plane_1 = word_1.x;
    }
    else
    {
        plane_1 = word_1.y;
    }
    var _S3 : u32 = (u32(1) << (u32(bits_0)));
//!!! with whole numbers of 8 bits
    return (f32((((plane_1 >> (u32(i32(32) - bits_0 - ((first_0 & (i32(31)))))))) & ((_S3 - u32(1))))) - (f32(_S3) - 1.0f) * 0.5f) * ntHalved(bits_0);
//!!! without
    var n_0 : f32 = f32(_S3);
    return (f32((((plane_1 >> (u32(i32(32) - bits_0 - ((first_0 & (i32(31)))))))) & ((_S3 - u32(1))))) - (n_0 - 1.0f) * 0.5f) / n_0;
//!!! both
}

//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
fn ntAddFeatures( inputs_0 : ptr<function, array<f16, NT_LAYER_WIDTH>>,  uv_0 : vec2<f32>,  lod_1 : i32,  share_0 : f32)
//!! without
//!!! both
fn ntAddFeatures( inputs_0 : ptr<function, array<f32, NT_LAYER_WIDTH>>,  uv_0 : vec2<f32>,  lod_1 : i32,  share_0 : f32)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    var which_0 : i32;
    var _S4 : i32;
    var _S5 : i32 = i32(2) * NT_NUM_FREQUENCIES;
    var grid_2 : i32 = i32(0);
    var first_1 : i32 = _S5;
    while(grid_2 < NT_NUM_GRIDS)
    {
        var mip_1 : i32 = ntMipOf(grid_2, lod_1);
//! with rectangles
        var resolution_1 : vec2<i32> = (vec2<i32>((ntGridSize((grid_2)))) >> (vec2<u32>(u32(mip_1))));
//!!! with whole numbers of 8 bits
//!!! without
        var position_0 : vec2<f32> = uv_0 * vec2<f32>(resolution_1) - vec2<f32>(0.5f);
//!!! both
//! without
        var resolution_1 : i32 = ((ntGridResolution((grid_2))) >> (u32(mip_1)));
//!!! with whole numbers of 8 bits
//! both
        var _S6 : vec2<f32> = vec2<f32>(0.5f);
//! with rectangles
        var position_0 : vec2<f32> = uv_0 * vec2<f32>(resolution_1) - _S6;
//! without
        var position_0 : vec2<f32> = uv_0 * vec2<f32>(f32(resolution_1)) - _S6;
//!!! without
        var position_0 : vec2<f32> = uv_0 * vec2<f32>(f32(resolution_1)) - vec2<f32>(0.5f);
//!!! both
//! both
        var corner_0 : vec2<f32> = floor(position_0);
//!!! with whole numbers of 8 bits
        var _S7 : vec2<f32> = floor((position_0 - corner_0) * vec2<f32>(256.0f) + _S6) * vec2<f32>(0.00390625f);
//!!! without
        var _S6 : vec2<f32> = position_0 - corner_0;
//!!! both
        var features_0 : i32 = (ntGridFeatures((grid_2)));
//!!! with whole numbers of 8 bits
        var _S8 : i32 = (ntGridBits((grid_2)));
//!!! without
        var _S7 : i32 = (ntGridBits((grid_2)));
//!!! both
        var learned_0 : bool = (ntGridLearned((grid_2))) == i32(1);
        which_0 = i32(0);
        while(which_0 < i32(4))
        {
//!!! with whole numbers of 8 bits
            var _S9 : i32 = (which_0 & (i32(1)));
            var _S10 : i32 = (which_0 >> (u32(1)));
            var texel_2 : vec2<i32> = vec2<i32>(corner_0) + vec2<i32>(_S9, _S10);
//!!! without
            var _S8 : i32 = (which_0 & (i32(1)));
            var _S9 : i32 = (which_0 >> (u32(1)));
            var texel_2 : vec2<i32> = vec2<i32>(corner_0) + vec2<i32>(_S8, _S9);
//!!! both
//! with rectangles
            var texel_3 : vec2<i32> = vec2<i32>(ntWrap(texel_2.x, resolution_1.x), ntWrap(texel_2.y, resolution_1.y));
//! without
            var texel_3 : vec2<i32> = vec2<i32>(ntWrap(texel_2.x, resolution_1), ntWrap(texel_2.y, resolution_1));
//! both
            var across_0 : f32;
//!!! with whole numbers of 8 bits
            if(_S9 == i32(0))
//!!! without
            if(_S8 == i32(0))
//!!! both
            {
//!!! with whole numbers of 8 bits
                across_0 = 1.0f - _S7.x;
//!!! without
                across_0 = 1.0f - _S6.x;
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                across_0 = _S7.x;
//!!! without
                across_0 = _S6.x;
//!!! both
            }
            var down_0 : f32;
//!!! with whole numbers of 8 bits
            if(_S10 == i32(0))
//!!! without
            if(_S9 == i32(0))
//!!! both
            {
//!!! with whole numbers of 8 bits
                down_0 = 1.0f - _S7.y;
//!!! without
                down_0 = 1.0f - _S6.y;
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                down_0 = _S7.y;
//!!! without
                down_0 = _S6.y;
//!!! both
            }
//!!! with whole numbers of 8 bits
            var _S11 : f32;
//!!! without
            var _S10 : f32;
//!!! both
            if(learned_0)
            {
//!!! with whole numbers of 8 bits
                _S11 = share_0;
//!!! without
                _S10 = share_0;
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                _S11 = share_0 * (across_0 * down_0);
//!!! without
                _S10 = share_0 * (across_0 * down_0);
//!!! both
            }
            if(learned_0)
            {
                _S4 = first_1 + which_0 * features_0;
            }
            else
            {
                _S4 = first_1;
            }
//!!! with whole numbers of 8 bits
            var _S12 : vec2<u32> = ntLoadWord(grid_2, texel_3, mip_1);
//!!! without
            var _S11 : vec2<u32> = ntLoadWord(grid_2, texel_3, mip_1);
//!!! both
            var feature_0 : i32 = i32(0);
            while(feature_0 < features_0)
            {
//!!! with whole numbers of 8 bits
                (*inputs_0)[_S4 + feature_0] = (*inputs_0)[_S4 + feature_0] + _S11 * ntFeatureOf(_S12, feature_0, _S8);
//!!! without
//!! with products of 16 bits
                (*inputs_0)[_S4 + feature_0] = (*inputs_0)[_S4 + feature_0] + f16(_S10 * ntFeatureOf(_S11, feature_0, _S7));
//!! without
                (*inputs_0)[_S4 + feature_0] = (*inputs_0)[_S4 + feature_0] + _S10 * ntFeatureOf(_S11, feature_0, _S7);
//!! both
//!!! both
                feature_0 = feature_0 + i32(1);
            }
            which_0 = which_0 + i32(1);
        }
        if(learned_0)
        {
            _S4 = i32(4) * features_0;
        }
        else
        {
            _S4 = features_0;
        }
        var first_2 : i32 = first_1 + _S4;
        grid_2 = grid_2 + i32(1);
        first_1 = first_2;
    }
//!!! with whole numbers of 8 bits
    var _S13 : i32 = NT_NUM_TEXEL_FREQUENCIES;
    if(_S13 > i32(0))
//!!! without
    var _S12 : i32 = NT_NUM_TEXEL_FREQUENCIES;
    if(_S12 > i32(0))
//!!! both
    {
//! with rectangles
//!!! with whole numbers of 8 bits
        var _S14 : vec2<f32> = uv_0 * vec2<f32>((vec2<i32>((ntGridSize((i32(0))))) >> (vec2<u32>(u32(ntMipOf(i32(0), lod_1)))))) - vec2<f32>(0.5f);
//!!! without
        var _S13 : vec2<f32> = uv_0 * vec2<f32>((vec2<i32>((ntGridSize((i32(0))))) >> (vec2<u32>(u32(ntMipOf(i32(0), lod_1)))))) - vec2<f32>(0.5f);
//!!! both
//! without
//!!! with whole numbers of 8 bits
        var _S14 : vec2<f32> = uv_0 * vec2<f32>(f32(((ntGridResolution((i32(0)))) >> (u32(ntMipOf(i32(0), lod_1)))))) - vec2<f32>(0.5f);
//!!! without
        var _S13 : vec2<f32> = uv_0 * vec2<f32>(f32(((ntGridResolution((i32(0)))) >> (u32(ntMipOf(i32(0), lod_1)))))) - vec2<f32>(0.5f);
//!!! both
//! both
        which_0 = i32(0);
//!!! with whole numbers of 8 bits
        while(which_0 < _S13)
//!!! without
        while(which_0 < _S12)
//!!! both
        {
//!!! with whole numbers of 8 bits
            var x_1 : vec2<f32> = _S14 * vec2<f32>(ntHalved(which_0));
//!!! without
            var x_1 : vec2<f32> = _S13 / vec2<f32>(f32((u32(1) << (u32(which_0)))));
//!!! both
            var wave_0 : vec2<f32> = vec2<f32>(2.0f) * (x_1 - floor(x_1)) - vec2<f32>(1.0f);
//!!! with whole numbers of 8 bits
            var _S15 : i32 = NT_FIRST_TEXEL_WAVE;
            (*inputs_0)[_S15 + which_0] = (*inputs_0)[_S15 + which_0] + share_0 * wave_0.x;
            (*inputs_0)[_S15 + _S13 + which_0] = (*inputs_0)[_S15 + _S13 + which_0] + share_0 * wave_0.y;
//!!! without
            var _S14 : i32 = NT_FIRST_TEXEL_WAVE;
//!! with products of 16 bits
            (*inputs_0)[_S14 + which_0] = (*inputs_0)[_S14 + which_0] + f16(share_0 * wave_0.x);
            (*inputs_0)[_S14 + _S12 + which_0] = (*inputs_0)[_S14 + _S12 + which_0] + f16(share_0 * wave_0.y);
//!! without
            (*inputs_0)[_S14 + which_0] = (*inputs_0)[_S14 + which_0] + share_0 * wave_0.x;
            (*inputs_0)[_S14 + _S12 + which_0] = (*inputs_0)[_S14 + _S12 + which_0] + share_0 * wave_0.y;
//!! both
//!!! both
            which_0 = which_0 + i32(1);
        }
    }
    return;
}

//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
fn ntDecoderInputs( inputs_1 : ptr<function, array<f16, NT_LAYER_WIDTH>>,  uv_1 : vec2<f32>,  near_0 : i32,  far_0 : i32,  blend_0 : f32,  lod_2 : f32)
//!! without
//!!! both
fn ntDecoderInputs( inputs_1 : ptr<function, array<f32, NT_LAYER_WIDTH>>,  uv_1 : vec2<f32>,  near_0 : i32,  far_0 : i32,  blend_0 : f32,  lod_2 : f32)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    var _S15 : f32;
    var _S16 : i32 = NT_FIRST_TEXEL_WAVE;
    var _S17 : i32 = _S16 + i32(2) * NT_NUM_TEXEL_FREQUENCIES;
    var i_0 : i32 = i32(0);
    while(i_0 < NT_LAYER_WIDTH)
    {
        var one_0 : bool;
        if(i_0 >= NT_NUM_REFERENCE_INPUTS)
        {
            if(i_0 < _S16)
            {
                one_0 = true;
            }
            else
            {
                one_0 = i_0 >= _S17;
            }
        }
        else
        {
            one_0 = false;
        }
        if(one_0)
        {
            _S15 = 1.0f;
        }
        else
        {
            _S15 = 0.0f;
        }
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        (*inputs_1)[i_0] = f16(_S15);
//!! without
//!!! both
        (*inputs_1)[i_0] = _S15;
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
        i_0 = i_0 + i32(1);
    }
    var _S18 : i32 = NT_NUM_FREQUENCIES;
    var octave_1 : i32 = i32(0);
    while(octave_1 < _S18)
    {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        (*inputs_1)[octave_1] = f16(ntTriangleWave(uv_1.x, octave_1));
        (*inputs_1)[_S18 + octave_1] = f16(ntTriangleWave(uv_1.y, octave_1));
//!! without
//!!! both
        (*inputs_1)[octave_1] = ntTriangleWave(uv_1.x, octave_1);
        (*inputs_1)[_S18 + octave_1] = ntTriangleWave(uv_1.y, octave_1);
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
        octave_1 = octave_1 + i32(1);
    }
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
    (*inputs_1)[NT_NUM_REFERENCE_INPUTS - i32(1)] = f16(lod_2 / f32(max(NT_NUM_LODS - i32(1), i32(1))));
//!! without
//!!! both
    (*inputs_1)[NT_NUM_REFERENCE_INPUTS - i32(1)] = lod_2 / f32(max(NT_NUM_LODS - i32(1), i32(1)));
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
    if(blend_0 > 0.0f)
    {
        i_0 = i32(2);
    }
    else
    {
        i_0 = i32(1);
    }
    var i_1 : i32 = i32(0);
    while(i_1 < i_0)
    {
        var _S19 : bool = i_1 == i32(0);
        if(_S19)
        {
            octave_1 = near_0;
        }
        else
        {
            octave_1 = far_0;
        }
        if(_S19)
        {
            _S15 = 1.0f - blend_0;
        }
        else
        {
            _S15 = blend_0;
        }
        ntAddFeatures(&((*inputs_1)), uv_1, octave_1, _S15);
        i_1 = i_1 + i32(1);
    }
    return;
}

//!!! with whole numbers of 8 bits
fn ntInputBytes( inputs_2 : vec4<f32>) -> vec4<u32>
//!!! without
//!! with products of 16 bits
fn ntBlock( column_0 : i32,  inputs_2 : vec4<f16>) -> vec4<f16>
//!!! both
{
//!!! with whole numbers of 8 bits
    return vec4<u32>(((vec4<i32>(floor(inputs_2 * vec4<f32>(16384.0f) + vec4<f32>(0.5f))) * vec4<i32>(i32(255)) + vec4<i32>(i32(4194304))) >> (vec4<u32>(u32(15)))));
//!!! without
    return (ntWeights((column_0))) * vec4<f16>(inputs_2.x) + (ntWeights((column_0 + i32(1)))) * vec4<f16>(inputs_2.y) + (ntWeights((column_0 + i32(2)))) * vec4<f16>(inputs_2.z) + (ntWeights((column_0 + i32(3)))) * vec4<f16>(inputs_2.w);
//!!! both
}

//!!! with whole numbers of 8 bits
fn ntPack( inputs_3 : vec4<u32>) -> u32
//!!! without
//!! without
//!! both
fn ntActivate( x_2 : f32) -> f32
//!!! both
{
//!!! with whole numbers of 8 bits
    return ((((((((inputs_3.x) | ((((inputs_3.y) << (u32(8))))))) | ((((inputs_3.z) << (u32(16))))))) | ((((inputs_3.w) << (u32(24))))))) ^ (u32(2155905152)));
//!!! without
    if(NT_HARD_SWISH == i32(1))
    {
        return x_2 * clamp(x_2 + 3.0f, 0.0f, 6.0f) / 6.0f;
    }
    var _S20 : f32;
    if(x_2 > 0.0f)
    {
        _S20 = x_2;
    }
    else
    {
        _S20 = NT_NEGATIVE_SLOPE * x_2;
    }
    return _S20;
//!!! both
}

//!!! with whole numbers of 8 bits
fn ntNetwork( values_0 : ptr<function, array<f32, NT_LAYER_WIDTH>>,  found_0 : ptr<function, array<f32, i32(16)>>)
//!!! without
//!! with products of 16 bits
fn ntNetwork( values_0 : ptr<function, array<f16, NT_LAYER_WIDTH>>,  found_0 : ptr<function, array<f32, i32(16)>>)
//!! without
fn ntNetwork( values_0 : ptr<function, array<f32, NT_LAYER_WIDTH>>)
//!! both
//!!! both
{
//!!! with whole numbers of 8 bits
    var words_0 : array<u32, NT_LAYER_WORDS>;
    var _S21 : i32 = NT_NUM_INPUTS / i32(4);
    var i_2 : i32 = i32(0);
    while(i_2 < _S21)
    {
        var _S22 : i32 = i32(4) * i_2;
        words_0[i_2] = ntPack(ntInputBytes(vec4<f32>((*values_0)[_S22], (*values_0)[_S22 + i32(1)], (*values_0)[_S22 + i32(2)], (*values_0)[_S22 + i32(3)])));
        i_2 = i_2 + i32(1);
    }
    var _S23 : i32 = NT_NUM_HIDDEN_LAYERS + i32(1);
    var count_0 : i32 = _S21;
//!!! without
//!! with products of 16 bits
    var first_3 : i32;
    var _S21 : i32 = NT_GROUP_INPUTS;
    var _S22 : i32 = NT_NUM_HIDDEN_LAYERS + i32(1);
//!! without
    var i_2 : i32;
    var _S21 : i32 = NT_NUM_HIDDEN_LAYERS + i32(1);
//!! both
    var inputCount_0 : i32 = NT_NUM_INPUTS;
//!!! both
    var layer_0 : i32 = i32(0);
//!!! with whole numbers of 8 bits
    var at_0 : i32 = i32(0);
    while(layer_0 < _S23)
//!!! without
//!! with products of 16 bits
    var column_1 : i32 = i32(0);
    while(layer_0 < _S22)
//!! without
    var column_0 : i32 = i32(0);
    while(layer_0 < _S21)
//!! both
//!!! both
    {
//!!! with whole numbers of 8 bits
        var last_0 : bool = layer_0 == (_S23 - i32(1));
        const _S24 : vec4<i32> = vec4<i32>(i32(0), i32(0), i32(0), i32(0));
        var _S25 : bool = !last_0;
        var at_1 : i32;
        var shifts_0 : vec4<i32>;
        var constants_0 : vec4<i32>;
        if(_S25)
//!!! without
//!! with products of 16 bits
        var last_0 : bool = layer_0 == (_S22 - i32(1));
//!! without
        var last_0 : bool = layer_0 == (_S21 - i32(1));
//!! both
        var outputCount_0 : i32;
        if(last_0)
//!!! both
        {
//!!! with whole numbers of 8 bits
            var _S26 : vec4<i32> = vec4<i32>((ntWeights((at_0 + i32(1)))));
            var at_2 : i32 = at_0 + i32(2);
            shifts_0 = vec4<i32>((ntWeights((at_0))));
            constants_0 = _S26;
            at_1 = at_2;
//!!! without
            outputCount_0 = i32(16);
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            shifts_0 = _S24;
            constants_0 = _S24;
            at_1 = at_0;
//!!! without
            outputCount_0 = NT_NUM_NEURONS;
//!!! both
        }
//!!! with whole numbers of 8 bits
        var next_0 : array<u32, NT_LAYER_WORDS>;
        var outputWords_0 : i32;
        if(last_0)
        {
            outputWords_0 = i32(4);
        }
        else
        {
            outputWords_0 = NT_NUM_NEURONS / i32(4);
        }
//!!! without
//!! with products of 16 bits
        var outputs_0 : array<f16, NT_LAYER_WIDTH>;
//!! without
        var outputs_0 : array<f32, NT_LAYER_WIDTH>;
//!! both
//!!! both
        var row_0 : i32 = i32(0);
//!!! with whole numbers of 8 bits
        at_0 = at_1;
        while(row_0 < outputWords_0)
//!!! without
        while(row_0 < outputCount_0)
//!!! both
        {
//!!! with whole numbers of 8 bits
            var factors_0 : vec4<u32> = (ntWeights((at_0 + i32(1))));
            var at_3 : i32 = at_0 + i32(2);
            var sums_0 : vec4<i32> = vec4<i32>((ntWeights((at_0))));
//!!! without
//!! with products of 16 bits
            const _S23 : vec4<f32> = vec4<f32>(0.0f, 0.0f, 0.0f, 0.0f);
            first_3 = i32(0);
            var sum_0 : vec4<f32> = _S23;
            while(first_3 < inputCount_0)
//!! without
            const _S22 : vec4<f32> = vec4<f32>(0.0f, 0.0f, 0.0f, 0.0f);
//!!! both
            i_2 = i32(0);
//!!! with whole numbers of 8 bits
            while(i_2 < count_0)
//!!! without
            var sum_0 : vec4<f32> = _S22;
            while(i_2 < inputCount_0)
//!! both
//!!! both
            {
//!!! with whole numbers of 8 bits
                var _S27 : vec4<i32> = (ntDots(((ntWeights((at_3 + i_2)))), (words_0[i_2]), (sums_0)));
                var _S28 : i32 = i_2 + i32(1);
                sums_0 = _S27;
                i_2 = _S28;
//!!! without
//!! with products of 16 bits
                var _S24 : vec4<f16> = ntBlock(column_1 + first_3, vec4<f16>((*values_0)[first_3], (*values_0)[first_3 + i32(1)], (*values_0)[first_3 + i32(2)], (*values_0)[first_3 + i32(3)]));
                var next_0 : i32 = i32(4);
                var part_0 : vec4<f16> = _S24;
                while(next_0 < _S21)
                {
                    var i_2 : i32 = first_3 + next_0;
                    var part_1 : vec4<f16> = part_0 + ntBlock(column_1 + i_2, vec4<f16>((*values_0)[i_2], (*values_0)[i_2 + i32(1)], (*values_0)[i_2 + i32(2)], (*values_0)[i_2 + i32(3)]));
                    next_0 = next_0 + i32(4);
                    part_0 = part_1;
                }
                var sum_1 : vec4<f32> = sum_0 + vec4<f32>(part_0);
                first_3 = first_3 + _S21;
//!! without
                var sum_1 : vec4<f32> = sum_0 + (ntWeights((column_0 + i_2))) * vec4<f32>((*values_0)[i_2]);
                i_2 = i_2 + i32(1);
//!! both
                sum_0 = sum_1;
//!!! both
            }
//!!! with whole numbers of 8 bits
            var at_4 : i32 = at_3 + count_0;
//!!! without
//!! with products of 16 bits
            var column_2 : i32 = column_1 + inputCount_0;
//!! without
            var column_1 : i32 = column_0 + inputCount_0;
//!! both
//! with scales of rows
            var sum_2 : vec4<f32> = sum_0 * (ntWeightScales(((layer_0 * NT_NUM_NEURONS + row_0) / i32(4))));
//!! with products of 16 bits
//!! without
            var sum_3 : vec4<f32>;
//!! both
//! without
//!! with products of 16 bits
//!! without
            var sum_2 : vec4<f32>;
//!! both
//! both
//!! with products of 16 bits
//!!! both
            if(last_0)
//!!! with whole numbers of 8 bits
//!!! without
//!! without
            if(!last_0)
//!! both
//!!! both
            {
//!!! with whole numbers of 8 bits
                var outputs_0 : vec4<f32> = vec4<f32>(sums_0) * (bitcast<vec4<f32>>((factors_0)));
                var _S29 : i32 = i32(4) * row_0;
                (*found_0)[_S29] = outputs_0.x;
                (*found_0)[_S29 + i32(1)] = outputs_0.y;
                (*found_0)[_S29 + i32(2)] = outputs_0.z;
                (*found_0)[_S29 + i32(3)] = outputs_0.w;
//!!! without
//! with scales of rows
//!! with products of 16 bits
                (*found_0)[row_0] = sum_2.x;
                (*found_0)[row_0 + i32(1)] = sum_2.y;
                (*found_0)[row_0 + i32(2)] = sum_2.z;
                (*found_0)[row_0 + i32(3)] = sum_2.w;
//!! without
                sum_3 = vec4<f32>(ntActivate(sum_2.x), ntActivate(sum_2.y), ntActivate(sum_2.z), ntActivate(sum_2.w));
//!! both
//! without
//!! with products of 16 bits
                (*found_0)[row_0] = sum_0.x;
                (*found_0)[row_0 + i32(1)] = sum_0.y;
                (*found_0)[row_0 + i32(2)] = sum_0.z;
                (*found_0)[row_0 + i32(3)] = sum_0.w;
//!! without
                sum_2 = vec4<f32>(ntActivate(sum_0.x), ntActivate(sum_0.y), ntActivate(sum_0.z), ntActivate(sum_0.w));
//!! both
//! both
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                var p_0 : vec4<i32> = ((((sums_0 >> (vec4<u32>(u32(shifts_0.x))))) * vec4<i32>(factors_0) + vec4<i32>(shifts_0.w)) >> (vec4<u32>(u32(shifts_0.y))));
                var y_0 : vec4<i32>;
                if(NT_HARD_SWISH == i32(1))
                {
                    var _S30 : i32 = constants_0.y;
                    y_0 = min(p_0, vec4<i32>(constants_0.x)) * clamp(p_0 + vec4<i32>(_S30), vec4<i32>(i32(0)), vec4<i32>((i32(2) * _S30)));
                }
                else
                {
                    var _S31 : vec4<i32> = vec4<i32>(i32(0));
                    y_0 = max(p_0, _S31) + (((clamp(p_0, vec4<i32>(- constants_0.x), _S31) * vec4<i32>(constants_0.z)) >> (vec4<u32>(u32(15)))));
                }
                next_0[row_0] = ntPack(vec4<u32>(clamp(((y_0 + vec4<i32>(constants_0.w)) >> (vec4<u32>(u32(shifts_0.z)))), vec4<i32>(i32(0)), vec4<i32>(i32(255)))));
//!!! without
//! with scales of rows
//!! with products of 16 bits
                outputs_0[row_0] = f16(ntActivate(sum_2.x));
                outputs_0[row_0 + i32(1)] = f16(ntActivate(sum_2.y));
                outputs_0[row_0 + i32(2)] = f16(ntActivate(sum_2.z));
                outputs_0[row_0 + i32(3)] = f16(ntActivate(sum_2.w));
//!! without
                sum_3 = sum_2;
//!! both
//! without
//!! with products of 16 bits
                outputs_0[row_0] = f16(ntActivate(sum_0.x));
                outputs_0[row_0 + i32(1)] = f16(ntActivate(sum_0.y));
                outputs_0[row_0 + i32(2)] = f16(ntActivate(sum_0.z));
                outputs_0[row_0 + i32(3)] = f16(ntActivate(sum_0.w));
//!! without
                sum_2 = sum_0;
//!! both
//! both
//!!! both
            }
//!!! with whole numbers of 8 bits
            row_0 = row_0 + i32(1);
            at_0 = at_4;
//!!! without
//!! with products of 16 bits
//!! without
//! with scales of rows
            outputs_0[row_0] = sum_3.x;
            outputs_0[row_0 + i32(1)] = sum_3.y;
            outputs_0[row_0 + i32(2)] = sum_3.z;
            outputs_0[row_0 + i32(3)] = sum_3.w;
//! without
            outputs_0[row_0] = sum_2.x;
            outputs_0[row_0 + i32(1)] = sum_2.y;
            outputs_0[row_0 + i32(2)] = sum_2.z;
            outputs_0[row_0 + i32(3)] = sum_2.w;
//! both
//!! both
            row_0 = row_0 + i32(4);
//!! with products of 16 bits
            column_1 = column_2;
//!! without
            column_0 = column_1;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        if(_S25)
//!!! without
//!! with products of 16 bits
        if(!last_0)
//!! without
        i_2 = i32(0);
        while(i_2 < outputCount_0)
//!! both
//!!! both
        {
//!!! with whole numbers of 8 bits
            var k_0 : i32 = i32(0);
            while(k_0 < outputWords_0)
//!!! without
//!! with products of 16 bits
            first_3 = i32(0);
            while(first_3 < outputCount_0)
//!!! both
            {
//!!! with whole numbers of 8 bits
                words_0[k_0] = next_0[k_0];
                k_0 = k_0 + i32(1);
//!!! without
                (*values_0)[first_3] = outputs_0[first_3];
                first_3 = first_3 + i32(1);
//!!! both
            }
//!!! with whole numbers of 8 bits
//!!! without
//!! without
            (*values_0)[i_2] = outputs_0[i_2];
            i_2 = i_2 + i32(1);
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        var _S32 : i32 = layer_0 + i32(1);
        count_0 = outputWords_0;
        layer_0 = _S32;
//!!! without
//!! with products of 16 bits
        var _S25 : i32 = layer_0 + i32(1);
//!! without
        var _S23 : i32 = layer_0 + i32(1);
//!! both
        inputCount_0 = outputCount_0;
//!! with products of 16 bits
        layer_0 = _S25;
//!! without
        layer_0 = _S23;
//!! both
//!!! both
    }
    return;
}

struct NtMaterial
{
     diffuse : vec3<f32>,
     normal : vec3<f32>,
     roughness : f32,
     occlusion : f32,
     metallic : f32,
     specular : f32,
     displacement : f32,
//! with extra maps
     opacity : f32,
     emissive : vec3<f32>,
     extra : f32,
//! without
//! both
};

fn ntDecode( uv_2 : vec2<f32>,  lod_3 : f32) -> NtMaterial
{
//!!! with whole numbers of 8 bits
    var _S33 : i32 = NT_NUM_LODS - i32(1);
    var level_0 : f32 = clamp(lod_3, 0.0f, f32(_S33));
    var _S34 : vec2<f32> = uv_2 - floor(uv_2);
//!!! without
//!! with products of 16 bits
    var _S26 : i32 = NT_NUM_LODS - i32(1);
    var level_0 : f32 = clamp(lod_3, 0.0f, f32(_S26));
    var _S27 : vec2<f32> = uv_2 - floor(uv_2);
//!! without
    var _S24 : i32 = NT_NUM_LODS - i32(1);
    var level_0 : f32 = clamp(lod_3, 0.0f, f32(_S24));
    var _S25 : vec2<f32> = uv_2 - floor(uv_2);
//!! both
//!!! both
    var near_1 : i32 = i32(level_0);
//!!! with whole numbers of 8 bits
    var _S35 : i32 = min(near_1 + i32(1), _S33);
//!!! without
//!! with products of 16 bits
    var _S28 : i32 = min(near_1 + i32(1), _S26);
//!! without
    var _S26 : i32 = min(near_1 + i32(1), _S24);
//!! both
//!!! both
    var blend_1 : f32 = level_0 - f32(near_1);
    var twice_0 : bool = NT_BLEND_OUTPUTS == i32(1);
//!!! with whole numbers of 8 bits
    var _S36 : bool;
//!!! without
//!! with products of 16 bits
    var _S29 : bool;
//!! without
    var _S27 : bool;
//!! both
//!!! both
    if(twice_0)
    {
//!!! with whole numbers of 8 bits
        _S36 = blend_1 > 0.0f;
//!!! without
//!! with products of 16 bits
        _S29 = blend_1 > 0.0f;
//!! without
        _S27 = blend_1 > 0.0f;
//!! both
//!!! both
    }
    else
    {
//!!! with whole numbers of 8 bits
        _S36 = false;
//!!! without
//!! with products of 16 bits
        _S29 = false;
//!! without
        _S27 = false;
//!! both
//!!! both
    }
    var channel_0 : i32;
//!!! with whole numbers of 8 bits
    if(_S36)
//!!! without
//!! with products of 16 bits
    if(_S29)
//!! without
    if(_S27)
//!! both
//!!! both
    {
        channel_0 = i32(2);
    }
    else
    {
        channel_0 = i32(1);
    }
    var decoded_0 : array<f32, i32(16)>;
    var pass_0 : i32 = i32(0);
    while(pass_0 < channel_0)
    {
//!!! with whole numbers of 8 bits
        var _S37 : bool = pass_0 == i32(0);
//!!! without
//!! with products of 16 bits
        var _S30 : bool = pass_0 == i32(0);
//!! without
        var _S28 : bool = pass_0 == i32(0);
//!! both
//!!! both
        var lower_0 : i32;
//!!! with whole numbers of 8 bits
        if(_S37)
//!!! without
//!! with products of 16 bits
        if(_S30)
//!! without
        if(_S28)
//!! both
//!!! both
        {
            lower_0 = near_1;
        }
        else
        {
//!!! with whole numbers of 8 bits
            lower_0 = _S35;
//!!! without
//!! with products of 16 bits
            lower_0 = _S28;
//!! without
            lower_0 = _S26;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        var values_1 : array<f16, NT_LAYER_WIDTH>;
        var _S31 : f32;
//!! without
//!!! both
        var values_1 : array<f32, NT_LAYER_WIDTH>;
//!!! with whole numbers of 8 bits
        var _S38 : f32;
//!!! without
        var _S29 : f32;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S38 = 0.0f;
//!!! without
//!! with products of 16 bits
            _S31 = 0.0f;
//!! without
            _S29 = 0.0f;
//!! both
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S38 = blend_1;
//!!! without
//!! with products of 16 bits
            _S31 = blend_1;
//!! without
            _S29 = blend_1;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        var _S39 : f32;
//!!! without
//!! with products of 16 bits
        var _S32 : f32;
//!! without
        var _S30 : f32;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S39 = f32(lower_0);
//!!! without
//!! with products of 16 bits
            _S32 = f32(lower_0);
//!! without
            _S30 = f32(lower_0);
//!! both
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S39 = level_0;
//!!! without
//!! with products of 16 bits
            _S32 = level_0;
//!! without
            _S30 = level_0;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        ntDecoderInputs(&(values_1), _S34, lower_0, _S35, _S38, _S39);
//!!! without
//!! with products of 16 bits
        ntDecoderInputs(&(values_1), _S27, lower_0, _S28, _S31, _S32);
//!!! both
        var found_1 : array<f32, i32(16)>;
        ntNetwork(&(values_1), &(found_1));
//!!! with whole numbers of 8 bits
//!!! without
//!! without
        ntDecoderInputs(&(values_1), _S25, lower_0, _S26, _S29, _S30);
        ntNetwork(&(values_1));
//!! both
//!!! both
        var i_3 : i32 = i32(0);
        while(i_3 < i32(16))
        {
//!!! with whole numbers of 8 bits
            var _S40 : f32;
            if(_S37)
//!!! without
//!! with products of 16 bits
            var _S33 : f32;
            if(_S30)
//!! without
            var _S31 : f32;
            if(_S28)
//!! both
//!!! both
            {
//!!! with whole numbers of 8 bits
                _S40 = found_1[i_3];
//!!! without
//!! with products of 16 bits
                _S33 = found_1[i_3];
//!! without
                _S31 = values_1[i_3];
//!! both
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                _S40 = decoded_0[i_3] + blend_1 * (found_1[i_3] - decoded_0[i_3]);
//!!! without
//!! with products of 16 bits
                _S33 = decoded_0[i_3] + blend_1 * (found_1[i_3] - decoded_0[i_3]);
//!! without
                _S31 = decoded_0[i_3] + blend_1 * (values_1[i_3] - decoded_0[i_3]);
//!! both
//!!! both
            }
//!!! with whole numbers of 8 bits
            decoded_0[i_3] = _S40;
//!!! without
//!! with products of 16 bits
            decoded_0[i_3] = _S33;
//!! without
            decoded_0[i_3] = _S31;
//!! both
//!!! both
            i_3 = i_3 + i32(1);
        }
        pass_0 = pass_0 + i32(1);
    }
    channel_0 = i32(0);
//! with extra maps
    while(channel_0 < i32(16))
//! without
    while(channel_0 < i32(11))
//! both
    {
        if((ntIsConstant((channel_0))) == i32(1))
        {
            decoded_0[channel_0] = (ntConstantValue((channel_0)));
        }
        channel_0 = channel_0 + i32(1);
    }
    var material_0 : NtMaterial;
    material_0.diffuse = vec3<f32>(decoded_0[i32(0)], decoded_0[i32(1)], decoded_0[i32(2)]);
    material_0.normal = vec3<f32>(decoded_0[i32(3)], decoded_0[i32(4)], decoded_0[i32(5)]);
    material_0.roughness = decoded_0[i32(6)];
    material_0.occlusion = decoded_0[i32(7)];
    material_0.metallic = decoded_0[i32(8)];
    material_0.specular = decoded_0[i32(9)];
    material_0.displacement = decoded_0[i32(10)];
//! with extra maps
    material_0.opacity = decoded_0[i32(11)];
    material_0.emissive = vec3<f32>(decoded_0[i32(12)], decoded_0[i32(13)], decoded_0[i32(14)]);
    material_0.extra = decoded_0[i32(15)];
//! without
//! both
    return material_0;
}

fn ntUnitNormal( material_1 : NtMaterial) -> vec3<f32>
{
    var vector_0 : vec3<f32> = material_1.normal * vec3<f32>(2.0f) - vec3<f32>(1.0f);
    var size_0 : f32 = length(vector_0);
    var _S32 : bool;
    if(NT_HAS_NORMAL == i32(1))
    {
        _S32 = size_0 > 9.99999997475242708e-07f;
    }
    else
    {
        _S32 = false;
    }
    var _S33 : vec3<f32>;
    if(_S32)
    {
        _S33 = vector_0 / vec3<f32>(size_0);
    }
    else
    {
        _S33 = vec3<f32>(0.0f, 0.0f, 1.0f);
    }
    return _S33;
}

fn ntSrgbToLinear( color_0 : vec3<f32>) -> vec3<f32>
{
    var c_0 : vec3<f32> = clamp(color_0, vec3<f32>(0.0f, 0.0f, 0.0f), vec3<f32>(1.0f, 1.0f, 1.0f));
    var low_0 : vec3<f32> = c_0 / vec3<f32>(12.92000007629394531f);
    var high_0 : vec3<f32> = pow((c_0 + vec3<f32>(0.05499999970197678f)) / vec3<f32>(1.0549999475479126f), vec3<f32>(2.40000009536743164f, 2.40000009536743164f, 2.40000009536743164f));
    var _S34 : f32;
    if((c_0.x) <= 0.04044999927282333f)
    {
        _S34 = low_0.x;
    }
    else
    {
        _S34 = high_0.x;
    }
    var _S35 : f32;
    if((c_0.y) <= 0.04044999927282333f)
    {
        _S35 = low_0.y;
    }
    else
    {
        _S35 = high_0.y;
    }
    var _S36 : f32;
    if((c_0.z) <= 0.04044999927282333f)
    {
        _S36 = low_0.z;
    }
    else
    {
        _S36 = high_0.z;
    }
    return vec3<f32>(_S34, _S35, _S36);
}

fn ntLinearDiffuse( material_2 : NtMaterial) -> vec3<f32>
{
    var _S37 : vec3<f32>;
    if(NT_DIFFUSE_IS_SRGB == i32(1))
    {
        _S37 = ntSrgbToLinear(material_2.diffuse);
    }
    else
    {
//! with units of diffuse
        _S37 = (ntFileDiffuse((material_2.diffuse)));
//! without
        _S37 = material_2.diffuse;
//! both
    }
    return _S37;
}

fn ntLod( across_1 : vec2<f32>,  down_1 : vec2<f32>) -> f32
{
    var size_1 : vec2<f32> = vec2<f32>(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT);
    var a_0 : vec2<f32> = across_1 * size_1;
    var b_0 : vec2<f32> = down_1 * size_1;
    return 0.5f * log2(max(max(dot(a_0, a_0), dot(b_0, b_0)), 9.999999960041972e-13f));
}

fn ntTexelCentre( uv_3 : vec2<f32>,  lod_4 : f32,  random_0 : vec2<f32>) -> vec2<f32>
{
    var _S38 : u32 = u32(i32(clamp(lod_4, 0.0f, f32(NT_NUM_LODS - i32(1))) + 0.5f));
    var size_2 : vec2<f32> = vec2<f32>(f32(max((i32(NT_MATERIAL_WIDTH) >> (_S38)), i32(1))), f32(max((i32(NT_MATERIAL_HEIGHT) >> (_S38)), i32(1))));
    var _S39 : vec2<f32> = vec2<f32>(0.5f);
    return (floor(uv_3 * size_2 - _S39 + random_0) + _S39) / size_2;
}
