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

fn ntFeaturesOf( channels_0 : vec4<f32>,  grid_1 : i32) -> vec4<f32>
{
    return (channels_0 - vec4<f32>(0.5f)) * vec4<f32>((ntGridScale((grid_1))));
}

fn ntLoadWord( grid_2 : i32,  texel_1 : vec2<i32>,  mip_0 : i32) -> vec2<u32>
{
    var word_0 : vec2<u32> = vec2<u32>(u32(0), u32(0));
    var plane_0 : i32 = i32(0);
    while(plane_0 < (ntGridPlanes((grid_2))))
    {
        var _S2 : vec4<u32> = vec4<u32>((ntFetchTexel((grid_2), (plane_0), (texel_1), (mip_0))) * vec4<f32>(255.0f) + vec4<f32>(0.5f));
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
    var octave_1 : i32;
    var _S4 : i32;
    var _S5 : i32 = i32(2) * NT_NUM_FREQUENCIES;
    var grid_3 : i32 = i32(0);
    var first_1 : i32 = _S5;
    while(grid_3 < NT_NUM_GRIDS)
    {
        var mip_1 : i32 = ntMipOf(grid_3, lod_1);
//! with rectangles
        var resolution_1 : vec2<i32> = (vec2<i32>((ntGridSize((grid_3)))) >> (vec2<u32>(u32(mip_1))));
//!!! with whole numbers of 8 bits
//!!! without
        var position_0 : vec2<f32> = uv_0 * vec2<f32>(resolution_1) - vec2<f32>(0.5f);
//!!! both
//! without
        var resolution_1 : i32 = ((ntGridResolution((grid_3))) >> (u32(mip_1)));
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
        var features_0 : i32 = (ntGridFeatures((grid_3)));
//!!! with whole numbers of 8 bits
        var _S8 : i32 = (ntGridBits((grid_3)));
//!!! without
        var _S7 : i32 = (ntGridBits((grid_3)));
//!!! both
        var learned_0 : bool = (ntGridLearned((grid_3))) == i32(1);
//!!! with whole numbers of 8 bits
        var _S9 : bool;
//!!! without
        var _S8 : bool;
//!!! both
        if(learned_0)
        {
//!!! with whole numbers of 8 bits
            _S9 = true;
//!!! without
            _S8 = true;
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S9 = (ntGridWords((grid_3))) == i32(1);
//!!! without
            _S8 = (ntGridWords((grid_3))) == i32(1);
//!!! both
        }
//!!! with whole numbers of 8 bits
        if(_S9)
//!!! without
        if(_S8)
//!!! both
        {
            octave_1 = i32(4);
        }
        else
        {
            octave_1 = i32(0);
        }
        var which_0 : i32 = i32(0);
        while(which_0 < octave_1)
        {
//!!! with whole numbers of 8 bits
            var _S10 : i32 = (which_0 & (i32(1)));
            var _S11 : i32 = (which_0 >> (u32(1)));
            var texel_2 : vec2<i32> = vec2<i32>(corner_0) + vec2<i32>(_S10, _S11);
//!!! without
            var _S9 : i32 = (which_0 & (i32(1)));
            var _S10 : i32 = (which_0 >> (u32(1)));
            var texel_2 : vec2<i32> = vec2<i32>(corner_0) + vec2<i32>(_S9, _S10);
//!!! both
//! with rectangles
            var texel_3 : vec2<i32> = vec2<i32>(ntWrap(texel_2.x, resolution_1.x), ntWrap(texel_2.y, resolution_1.y));
//! without
            var texel_3 : vec2<i32> = vec2<i32>(ntWrap(texel_2.x, resolution_1), ntWrap(texel_2.y, resolution_1));
//! both
            var across_0 : f32;
//!!! with whole numbers of 8 bits
            if(_S10 == i32(0))
//!!! without
            if(_S9 == i32(0))
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
            if(_S11 == i32(0))
//!!! without
            if(_S10 == i32(0))
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
            var _S12 : f32;
//!!! without
            var _S11 : f32;
//!!! both
            if(learned_0)
            {
//!!! with whole numbers of 8 bits
                _S12 = share_0;
//!!! without
                _S11 = share_0;
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                _S12 = share_0 * (across_0 * down_0);
//!!! without
                _S11 = share_0 * (across_0 * down_0);
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
            var plane_2 : i32;
            if(!((ntGridWords((grid_3))) == i32(1)))
            {
                plane_2 = i32(0);
                while(plane_2 < (ntGridPlanes((grid_3))))
                {
//!!! with whole numbers of 8 bits
                    var _S13 : vec4<f32> = ntFeaturesOf((ntFetchTexel((grid_3), (plane_2), (texel_3), (mip_1))), grid_3);
                    var _S14 : i32 = i32(4) * plane_2;
                    var _S15 : i32 = min(i32(4), features_0 - _S14);
//!!! without
                    var _S12 : vec4<f32> = ntFeaturesOf((ntFetchTexel((grid_3), (plane_2), (texel_3), (mip_1))), grid_3);
                    var _S13 : i32 = i32(4) * plane_2;
                    var _S14 : i32 = min(i32(4), features_0 - _S13);
//!!! both
                    var k_0 : i32 = i32(0);
//!!! with whole numbers of 8 bits
                    while(k_0 < _S15)
//!!! without
                    while(k_0 < _S14)
//!!! both
                    {
//!!! with whole numbers of 8 bits
                        (*inputs_0)[_S4 + _S14 + k_0] = (*inputs_0)[_S4 + _S14 + k_0] + _S12 * _S13[k_0];
//!!! without
//!! with products of 16 bits
                        (*inputs_0)[_S4 + _S13 + k_0] = (*inputs_0)[_S4 + _S13 + k_0] + f16(_S11 * _S12[k_0]);
//!! without
                        (*inputs_0)[_S4 + _S13 + k_0] = (*inputs_0)[_S4 + _S13 + k_0] + _S11 * _S12[k_0];
//!! both
//!!! both
                        k_0 = k_0 + i32(1);
                    }
                    plane_2 = plane_2 + i32(1);
                }
            }
            else
            {
//!!! with whole numbers of 8 bits
                var _S16 : vec2<u32> = ntLoadWord(grid_3, texel_3, mip_1);
//!!! without
                var _S15 : vec2<u32> = ntLoadWord(grid_3, texel_3, mip_1);
//!!! both
                plane_2 = i32(0);
                while(plane_2 < features_0)
                {
//!!! with whole numbers of 8 bits
                    (*inputs_0)[_S4 + plane_2] = (*inputs_0)[_S4 + plane_2] + _S12 * ntFeatureOf(_S16, plane_2, _S8);
//!!! without
//!! with products of 16 bits
                    (*inputs_0)[_S4 + plane_2] = (*inputs_0)[_S4 + plane_2] + f16(_S11 * ntFeatureOf(_S15, plane_2, _S7));
//!! without
                    (*inputs_0)[_S4 + plane_2] = (*inputs_0)[_S4 + plane_2] + _S11 * ntFeatureOf(_S15, plane_2, _S7);
//!! both
//!!! both
                    plane_2 = plane_2 + i32(1);
                }
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
        grid_3 = grid_3 + i32(1);
        first_1 = first_2;
    }
//!!! with whole numbers of 8 bits
    var _S17 : i32 = NT_NUM_TEXEL_FREQUENCIES;
    if(_S17 > i32(0))
//!!! without
    var _S16 : i32 = NT_NUM_TEXEL_FREQUENCIES;
    if(_S16 > i32(0))
//!!! both
    {
//! with rectangles
//!!! with whole numbers of 8 bits
        var _S18 : vec2<f32> = uv_0 * vec2<f32>((vec2<i32>((ntGridSize((i32(0))))) >> (vec2<u32>(u32(ntMipOf(i32(0), lod_1)))))) - vec2<f32>(0.5f);
//!!! without
        var _S17 : vec2<f32> = uv_0 * vec2<f32>((vec2<i32>((ntGridSize((i32(0))))) >> (vec2<u32>(u32(ntMipOf(i32(0), lod_1)))))) - vec2<f32>(0.5f);
//!!! both
//! without
//!!! with whole numbers of 8 bits
        var _S18 : vec2<f32> = uv_0 * vec2<f32>(f32(((ntGridResolution((i32(0)))) >> (u32(ntMipOf(i32(0), lod_1)))))) - vec2<f32>(0.5f);
//!!! without
        var _S17 : vec2<f32> = uv_0 * vec2<f32>(f32(((ntGridResolution((i32(0)))) >> (u32(ntMipOf(i32(0), lod_1)))))) - vec2<f32>(0.5f);
//!!! both
//! both
        octave_1 = i32(0);
//!!! with whole numbers of 8 bits
        while(octave_1 < _S17)
//!!! without
        while(octave_1 < _S16)
//!!! both
        {
//!!! with whole numbers of 8 bits
            var x_1 : vec2<f32> = _S18 * vec2<f32>(ntHalved(octave_1));
//!!! without
            var x_1 : vec2<f32> = _S17 / vec2<f32>(f32((u32(1) << (u32(octave_1)))));
//!!! both
            var wave_0 : vec2<f32> = vec2<f32>(2.0f) * (x_1 - floor(x_1)) - vec2<f32>(1.0f);
//!!! with whole numbers of 8 bits
            var _S19 : i32 = NT_FIRST_TEXEL_WAVE;
            (*inputs_0)[_S19 + octave_1] = (*inputs_0)[_S19 + octave_1] + share_0 * wave_0.x;
            (*inputs_0)[_S19 + _S17 + octave_1] = (*inputs_0)[_S19 + _S17 + octave_1] + share_0 * wave_0.y;
//!!! without
            var _S18 : i32 = NT_FIRST_TEXEL_WAVE;
//!! with products of 16 bits
            (*inputs_0)[_S18 + octave_1] = (*inputs_0)[_S18 + octave_1] + f16(share_0 * wave_0.x);
            (*inputs_0)[_S18 + _S16 + octave_1] = (*inputs_0)[_S18 + _S16 + octave_1] + f16(share_0 * wave_0.y);
//!! without
            (*inputs_0)[_S18 + octave_1] = (*inputs_0)[_S18 + octave_1] + share_0 * wave_0.x;
            (*inputs_0)[_S18 + _S16 + octave_1] = (*inputs_0)[_S18 + _S16 + octave_1] + share_0 * wave_0.y;
//!! both
//!!! both
            octave_1 = octave_1 + i32(1);
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
    var _S19 : f32;
    var _S20 : i32 = NT_FIRST_TEXEL_WAVE;
    var _S21 : i32 = _S20 + i32(2) * NT_NUM_TEXEL_FREQUENCIES;
    var i_0 : i32 = i32(0);
    while(i_0 < NT_LAYER_WIDTH)
    {
        var one_0 : bool;
        if(i_0 >= NT_NUM_REFERENCE_INPUTS)
        {
            if(i_0 < _S20)
            {
                one_0 = true;
            }
            else
            {
                one_0 = i_0 >= _S21;
            }
        }
        else
        {
            one_0 = false;
        }
        if(one_0)
        {
            _S19 = 1.0f;
        }
        else
        {
            _S19 = 0.0f;
        }
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        (*inputs_1)[i_0] = f16(_S19);
//!! without
//!!! both
        (*inputs_1)[i_0] = _S19;
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
        i_0 = i_0 + i32(1);
    }
    var _S22 : i32 = NT_NUM_FREQUENCIES;
    var octave_2 : i32 = i32(0);
    while(octave_2 < _S22)
    {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        (*inputs_1)[octave_2] = f16(ntTriangleWave(uv_1.x, octave_2));
        (*inputs_1)[_S22 + octave_2] = f16(ntTriangleWave(uv_1.y, octave_2));
//!! without
//!!! both
        (*inputs_1)[octave_2] = ntTriangleWave(uv_1.x, octave_2);
        (*inputs_1)[_S22 + octave_2] = ntTriangleWave(uv_1.y, octave_2);
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
        octave_2 = octave_2 + i32(1);
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
        var _S23 : bool = i_1 == i32(0);
        if(_S23)
        {
            octave_2 = near_0;
        }
        else
        {
            octave_2 = far_0;
        }
        if(_S23)
        {
            _S19 = 1.0f - blend_0;
        }
        else
        {
            _S19 = blend_0;
        }
        ntAddFeatures(&((*inputs_1)), uv_1, octave_2, _S19);
        i_1 = i_1 + i32(1);
    }
    return;
}

fn ntSample( grid_4 : i32,  plane_3 : i32,  uv_2 : vec2<f32>,  mip_2 : f32,  axis_0 : vec2<f32>,  ratio_0 : f32) -> vec4<f32>
{
    if(ratio_0 < 0.5f)
    {
        return (ntSampleTexel((grid_4), (plane_3), (uv_2), (mip_2)));
    }
//! with rectangles
    var resolution_2 : vec2<f32> = (ntGridSize((grid_4)));
//! without
    var resolution_2 : f32 = f32((ntGridResolution((grid_4))));
//! both
    var narrow_0 : f32 = exp2(mip_2);
//! with rectangles
    var longer_0 : vec2<f32> = axis_0 * resolution_2;
    var size_0 : f32 = length(longer_0);
//! without
    var size_0 : f32 = length(axis_0);
//! both
    var direction_0 : vec2<f32>;
    if(size_0 > 0.0f)
    {
//! with rectangles
        direction_0 = longer_0 / vec2<f32>(size_0);
//! without
        direction_0 = axis_0 / vec2<f32>(size_0);
//! both
    }
    else
    {
        direction_0 = vec2<f32>(1.0f, 0.0f);
    }
//! with rectangles
    return (ntSampleTexelGrad((grid_4), (plane_3), (uv_2), (direction_0 * vec2<f32>(clamp(size_0, narrow_0, narrow_0 * ratio_0)) / resolution_2), (vec2<f32>(- direction_0.y, direction_0.x) * vec2<f32>(narrow_0) / resolution_2)));
//! without
    return (ntSampleTexelGrad((grid_4), (plane_3), (uv_2), (direction_0 * vec2<f32>((clamp(size_0 * resolution_2, narrow_0, narrow_0 * ratio_0) / resolution_2))), (vec2<f32>(- direction_0.y, direction_0.x) * vec2<f32>((narrow_0 / resolution_2)))));
//! both
}

//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
fn ntAddSampledFeatures( inputs_2 : ptr<function, array<f16, NT_LAYER_WIDTH>>,  uv_3 : vec2<f32>,  lod_3 : f32,  axis_1 : vec2<f32>,  ratio_1 : f32)
//!! without
//!!! both
fn ntAddSampledFeatures( inputs_2 : ptr<function, array<f32, NT_LAYER_WIDTH>>,  uv_3 : vec2<f32>,  lod_3 : f32,  axis_1 : vec2<f32>,  ratio_1 : f32)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    var k_1 : i32;
    var _S24 : i32 = i32(2) * NT_NUM_FREQUENCIES;
    var grid_5 : i32 = i32(0);
    var first_3 : i32 = _S24;
    while(grid_5 < NT_NUM_GRIDS)
    {
        var learned_1 : bool = (ntGridLearned((grid_5))) == i32(1);
        var features_1 : i32 = (ntGridFeatures((grid_5)));
        var _S25 : f32 = min(max(lod_3 - f32((ntGridSharedLods((grid_5)))), 0.0f), f32((ntGridMips((grid_5))) - i32(1)));
        var _S26 : bool;
        if(learned_1)
        {
            _S26 = true;
        }
        else
        {
            _S26 = (ntGridWords((grid_5))) == i32(1);
        }
        var _S27 : i32;
        if(_S26)
        {
            _S27 = i32(0);
        }
        else
        {
            _S27 = (ntGridPlanes((grid_5)));
        }
        var plane_4 : i32 = i32(0);
        while(plane_4 < _S27)
        {
            var _S28 : vec4<f32> = ntFeaturesOf(ntSample(grid_5, plane_4, uv_3, _S25, axis_1, ratio_1), grid_5);
            var _S29 : i32 = i32(4) * plane_4;
            var _S30 : i32 = min(i32(4), features_1 - _S29);
            k_1 = i32(0);
            while(k_1 < _S30)
            {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
                (*inputs_2)[first_3 + _S29 + k_1] = (*inputs_2)[first_3 + _S29 + k_1] + f16(_S28[k_1]);
//!! without
//!!! both
                (*inputs_2)[first_3 + _S29 + k_1] = (*inputs_2)[first_3 + _S29 + k_1] + _S28[k_1];
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
                k_1 = k_1 + i32(1);
            }
            plane_4 = plane_4 + i32(1);
        }
        if(learned_1)
        {
            k_1 = i32(4) * features_1;
        }
        else
        {
            k_1 = features_1;
        }
        var first_4 : i32 = first_3 + k_1;
        grid_5 = grid_5 + i32(1);
        first_3 = first_4;
    }
    return;
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
//!!! both
}

//!!! with whole numbers of 8 bits
fn ntInputBytes( inputs_3 : vec4<f32>) -> vec4<u32>
//!!! without
fn ntBlock( column_0 : i32,  inputs_3 : vec4<f16>) -> vec4<f16>
//!!! both
{
//!!! with whole numbers of 8 bits
    return vec4<u32>(((vec4<i32>(floor(inputs_3 * vec4<f32>(16384.0f) + vec4<f32>(0.5f))) * vec4<i32>(i32(255)) + vec4<i32>(i32(4194304))) >> (vec4<u32>(u32(15)))));
//!!! without
    return (ntWeights((column_0))) * vec4<f16>(inputs_3.x) + (ntWeights((column_0 + i32(1)))) * vec4<f16>(inputs_3.y) + (ntWeights((column_0 + i32(2)))) * vec4<f16>(inputs_3.z) + (ntWeights((column_0 + i32(3)))) * vec4<f16>(inputs_3.w);
//!! without
//!! both
//!!! both
}

//!!! with whole numbers of 8 bits
fn ntPack( inputs_4 : vec4<u32>) -> u32
//!!! without
fn ntActivate( x_2 : f32) -> f32
//!!! both
{
//!!! with whole numbers of 8 bits
    return ((((((((inputs_4.x) | ((((inputs_4.y) << (u32(8))))))) | ((((inputs_4.z) << (u32(16))))))) | ((((inputs_4.w) << (u32(24))))))) ^ (u32(2155905152)));
//!!! without
    if(NT_HARD_SWISH == i32(1))
    {
        return x_2 * clamp(x_2 + 3.0f, 0.0f, 6.0f) / 6.0f;
    }
    var _S31 : f32;
    if(x_2 > 0.0f)
    {
        _S31 = x_2;
    }
    else
    {
        _S31 = NT_NEGATIVE_SLOPE * x_2;
    }
    return _S31;
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
    var _S32 : i32 = NT_NUM_INPUTS / i32(4);
    var i_2 : i32 = i32(0);
    while(i_2 < _S32)
    {
        var _S33 : i32 = i32(4) * i_2;
        words_0[i_2] = ntPack(ntInputBytes(vec4<f32>((*values_0)[_S33], (*values_0)[_S33 + i32(1)], (*values_0)[_S33 + i32(2)], (*values_0)[_S33 + i32(3)])));
        i_2 = i_2 + i32(1);
    }
    var _S34 : i32 = NT_NUM_HIDDEN_LAYERS + i32(1);
    var count_0 : i32 = _S32;
//!!! without
//!! with products of 16 bits
    var first_5 : i32;
    var _S32 : i32 = NT_GROUP_INPUTS;
    var _S33 : i32 = NT_NUM_HIDDEN_LAYERS + i32(1);
//!! without
    var i_2 : i32;
    var _S32 : i32 = NT_NUM_HIDDEN_LAYERS + i32(1);
//!! both
    var inputCount_0 : i32 = NT_NUM_INPUTS;
//!!! both
    var layer_0 : i32 = i32(0);
//!!! with whole numbers of 8 bits
    var at_0 : i32 = i32(0);
    while(layer_0 < _S34)
//!!! without
//!! with products of 16 bits
    var column_1 : i32 = i32(0);
    while(layer_0 < _S33)
//!! without
    var column_0 : i32 = i32(0);
    while(layer_0 < _S32)
//!! both
//!!! both
    {
//!!! with whole numbers of 8 bits
        var last_0 : bool = layer_0 == (_S34 - i32(1));
        const _S35 : vec4<i32> = vec4<i32>(i32(0), i32(0), i32(0), i32(0));
        var _S36 : bool = !last_0;
        var at_1 : i32;
        var shifts_0 : vec4<i32>;
        var constants_0 : vec4<i32>;
        if(_S36)
//!!! without
//!! with products of 16 bits
        var last_0 : bool = layer_0 == (_S33 - i32(1));
//!! without
        var last_0 : bool = layer_0 == (_S32 - i32(1));
//!! both
        var outputCount_0 : i32;
        if(last_0)
//!!! both
        {
//!!! with whole numbers of 8 bits
            var _S37 : vec4<i32> = vec4<i32>((ntWeights((at_0 + i32(1)))));
            var at_2 : i32 = at_0 + i32(2);
            shifts_0 = vec4<i32>((ntWeights((at_0))));
            constants_0 = _S37;
            at_1 = at_2;
//!!! without
            outputCount_0 = i32(16);
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            shifts_0 = _S35;
            constants_0 = _S35;
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
            const _S34 : vec4<f32> = vec4<f32>(0.0f, 0.0f, 0.0f, 0.0f);
            first_5 = i32(0);
            var sum_0 : vec4<f32> = _S34;
            while(first_5 < inputCount_0)
//!! without
            const _S33 : vec4<f32> = vec4<f32>(0.0f, 0.0f, 0.0f, 0.0f);
//!!! both
            i_2 = i32(0);
//!!! with whole numbers of 8 bits
            while(i_2 < count_0)
//!!! without
            var sum_0 : vec4<f32> = _S33;
            while(i_2 < inputCount_0)
//!! both
//!!! both
            {
//!!! with whole numbers of 8 bits
                var _S38 : vec4<i32> = (ntDots(((ntWeights((at_3 + i_2)))), (words_0[i_2]), (sums_0)));
                var _S39 : i32 = i_2 + i32(1);
                sums_0 = _S38;
                i_2 = _S39;
//!!! without
//!! with products of 16 bits
                var _S35 : vec4<f16> = ntBlock(column_1 + first_5, vec4<f16>((*values_0)[first_5], (*values_0)[first_5 + i32(1)], (*values_0)[first_5 + i32(2)], (*values_0)[first_5 + i32(3)]));
                var next_0 : i32 = i32(4);
                var part_0 : vec4<f16> = _S35;
                while(next_0 < _S32)
                {
                    var i_2 : i32 = first_5 + next_0;
                    var part_1 : vec4<f16> = part_0 + ntBlock(column_1 + i_2, vec4<f16>((*values_0)[i_2], (*values_0)[i_2 + i32(1)], (*values_0)[i_2 + i32(2)], (*values_0)[i_2 + i32(3)]));
                    next_0 = next_0 + i32(4);
                    part_0 = part_1;
                }
                var sum_1 : vec4<f32> = sum_0 + vec4<f32>(part_0);
                first_5 = first_5 + _S32;
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
                var _S40 : i32 = i32(4) * row_0;
                (*found_0)[_S40] = outputs_0.x;
                (*found_0)[_S40 + i32(1)] = outputs_0.y;
                (*found_0)[_S40 + i32(2)] = outputs_0.z;
                (*found_0)[_S40 + i32(3)] = outputs_0.w;
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
                    var _S41 : i32 = constants_0.y;
                    y_0 = min(p_0, vec4<i32>(constants_0.x)) * clamp(p_0 + vec4<i32>(_S41), vec4<i32>(i32(0)), vec4<i32>((i32(2) * _S41)));
                }
                else
                {
                    var _S42 : vec4<i32> = vec4<i32>(i32(0));
                    y_0 = max(p_0, _S42) + (((clamp(p_0, vec4<i32>(- constants_0.x), _S42) * vec4<i32>(constants_0.z)) >> (vec4<u32>(u32(15)))));
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
        if(_S36)
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
            var k_2 : i32 = i32(0);
            while(k_2 < outputWords_0)
//!!! without
//!! with products of 16 bits
            first_5 = i32(0);
            while(first_5 < outputCount_0)
//!!! both
            {
//!!! with whole numbers of 8 bits
                words_0[k_2] = next_0[k_2];
                k_2 = k_2 + i32(1);
//!!! without
                (*values_0)[first_5] = outputs_0[first_5];
                first_5 = first_5 + i32(1);
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
        var _S43 : i32 = layer_0 + i32(1);
        count_0 = outputWords_0;
        layer_0 = _S43;
//!!! without
//!! with products of 16 bits
        var _S36 : i32 = layer_0 + i32(1);
//!! without
        var _S34 : i32 = layer_0 + i32(1);
//!! both
        inputCount_0 = outputCount_0;
//!! with products of 16 bits
        layer_0 = _S36;
//!! without
        layer_0 = _S34;
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

fn ntDecodeFootprint( uv_4 : vec2<f32>,  lod_4 : f32,  axis_2 : vec2<f32>,  ratio_2 : f32) -> NtMaterial
{
//!!! with whole numbers of 8 bits
    var _S44 : i32 = NT_NUM_LODS - i32(1);
    var level_0 : f32 = clamp(lod_4, 0.0f, f32(_S44));
    var _S45 : vec2<f32> = uv_4 - floor(uv_4);
//!!! without
//!! with products of 16 bits
    var _S37 : i32 = NT_NUM_LODS - i32(1);
    var level_0 : f32 = clamp(lod_4, 0.0f, f32(_S37));
    var _S38 : vec2<f32> = uv_4 - floor(uv_4);
//!! without
    var _S35 : i32 = NT_NUM_LODS - i32(1);
    var level_0 : f32 = clamp(lod_4, 0.0f, f32(_S35));
    var _S36 : vec2<f32> = uv_4 - floor(uv_4);
//!! both
//!!! both
    var near_1 : i32 = i32(level_0);
//!!! with whole numbers of 8 bits
    var _S46 : i32 = min(near_1 + i32(1), _S44);
//!!! without
//!! with products of 16 bits
    var _S39 : i32 = min(near_1 + i32(1), _S37);
//!! without
    var _S37 : i32 = min(near_1 + i32(1), _S35);
//!! both
//!!! both
    var blend_1 : f32 = level_0 - f32(near_1);
    var twice_0 : bool = NT_BLEND_OUTPUTS == i32(1);
//!!! with whole numbers of 8 bits
    var _S47 : bool;
//!!! without
//!! with products of 16 bits
    var _S40 : bool;
//!! without
    var _S38 : bool;
//!! both
//!!! both
    if(twice_0)
    {
//!!! with whole numbers of 8 bits
        _S47 = blend_1 > 0.0f;
//!!! without
//!! with products of 16 bits
        _S40 = blend_1 > 0.0f;
//!! without
        _S38 = blend_1 > 0.0f;
//!! both
//!!! both
    }
    else
    {
//!!! with whole numbers of 8 bits
        _S47 = false;
//!!! without
//!! with products of 16 bits
        _S40 = false;
//!! without
        _S38 = false;
//!! both
//!!! both
    }
    var channel_0 : i32;
//!!! with whole numbers of 8 bits
    if(_S47)
//!!! without
//!! with products of 16 bits
    if(_S40)
//!! without
    if(_S38)
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
        var _S48 : bool = pass_0 == i32(0);
//!!! without
//!! with products of 16 bits
        var _S41 : bool = pass_0 == i32(0);
//!! without
        var _S39 : bool = pass_0 == i32(0);
//!! both
//!!! both
        var lower_0 : i32;
//!!! with whole numbers of 8 bits
        if(_S48)
//!!! without
//!! with products of 16 bits
        if(_S41)
//!! without
        if(_S39)
//!! both
//!!! both
        {
            lower_0 = near_1;
        }
        else
        {
//!!! with whole numbers of 8 bits
            lower_0 = _S46;
//!!! without
//!! with products of 16 bits
            lower_0 = _S39;
//!! without
            lower_0 = _S37;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        var values_1 : array<f16, NT_LAYER_WIDTH>;
        var _S42 : f32;
//!! without
//!!! both
        var values_1 : array<f32, NT_LAYER_WIDTH>;
//!!! with whole numbers of 8 bits
        var _S49 : f32;
//!!! without
        var _S40 : f32;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S49 = 0.0f;
//!!! without
//!! with products of 16 bits
            _S42 = 0.0f;
//!! without
            _S40 = 0.0f;
//!! both
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S49 = blend_1;
//!!! without
//!! with products of 16 bits
            _S42 = blend_1;
//!! without
            _S40 = blend_1;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        var _S50 : f32;
//!!! without
//!! with products of 16 bits
        var _S43 : f32;
//!! without
        var _S41 : f32;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S50 = f32(lower_0);
//!!! without
//!! with products of 16 bits
            _S43 = f32(lower_0);
//!! without
            _S41 = f32(lower_0);
//!! both
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S50 = level_0;
//!!! without
//!! with products of 16 bits
            _S43 = level_0;
//!! without
            _S41 = level_0;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        ntDecoderInputs(&(values_1), _S45, lower_0, _S46, _S49, _S50);
        var _S51 : f32;
//!!! without
//!! with products of 16 bits
        ntDecoderInputs(&(values_1), _S38, lower_0, _S39, _S42, _S43);
        var _S44 : f32;
//!! without
        ntDecoderInputs(&(values_1), _S36, lower_0, _S37, _S40, _S41);
        var _S42 : f32;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S51 = f32(lower_0);
//!!! without
//!! with products of 16 bits
            _S44 = f32(lower_0);
//!! without
            _S42 = f32(lower_0);
//!! both
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S51 = level_0;
//!!! without
//!! with products of 16 bits
            _S44 = level_0;
//!! without
            _S42 = level_0;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        ntAddSampledFeatures(&(values_1), _S45, _S51, axis_2, ratio_2);
//!!! without
//!! with products of 16 bits
        ntAddSampledFeatures(&(values_1), _S38, _S44, axis_2, ratio_2);
//!!! both
        var found_1 : array<f32, i32(16)>;
        ntNetwork(&(values_1), &(found_1));
//!!! with whole numbers of 8 bits
//!!! without
//!! without
        ntAddSampledFeatures(&(values_1), _S36, _S42, axis_2, ratio_2);
        ntNetwork(&(values_1));
//!! both
//!!! both
        var i_3 : i32 = i32(0);
        while(i_3 < i32(16))
        {
//!!! with whole numbers of 8 bits
            var _S52 : f32;
            if(_S48)
//!!! without
//!! with products of 16 bits
            var _S45 : f32;
            if(_S41)
//!! without
            var _S43 : f32;
            if(_S39)
//!! both
//!!! both
            {
//!!! with whole numbers of 8 bits
                _S52 = found_1[i_3];
//!!! without
//!! with products of 16 bits
                _S45 = found_1[i_3];
//!! without
                _S43 = values_1[i_3];
//!! both
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                _S52 = decoded_0[i_3] + blend_1 * (found_1[i_3] - decoded_0[i_3]);
//!!! without
//!! with products of 16 bits
                _S45 = decoded_0[i_3] + blend_1 * (found_1[i_3] - decoded_0[i_3]);
//!! without
                _S43 = decoded_0[i_3] + blend_1 * (values_1[i_3] - decoded_0[i_3]);
//!! both
//!!! both
            }
//!!! with whole numbers of 8 bits
            decoded_0[i_3] = _S52;
//!!! without
//!! with products of 16 bits
            decoded_0[i_3] = _S45;
//!! without
            decoded_0[i_3] = _S43;
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

fn ntDecode( uv_5 : vec2<f32>,  lod_5 : f32) -> NtMaterial
{
    return ntDecodeFootprint(uv_5, lod_5, vec2<f32>(0.0f, 0.0f), 0.0f);
}

fn ntUnitNormal( material_1 : NtMaterial) -> vec3<f32>
{
    var vector_0 : vec3<f32> = material_1.normal * vec3<f32>(2.0f) - vec3<f32>(1.0f);
    var size_1 : f32 = length(vector_0);
    var _S44 : bool;
    if(NT_HAS_NORMAL == i32(1))
    {
        _S44 = size_1 > 9.99999997475242708e-07f;
    }
    else
    {
        _S44 = false;
    }
    var _S45 : vec3<f32>;
    if(_S44)
    {
        _S45 = vector_0 / vec3<f32>(size_1);
    }
    else
    {
        _S45 = vec3<f32>(0.0f, 0.0f, 1.0f);
    }
    return _S45;
}

fn ntSrgbToLinear( color_0 : vec3<f32>) -> vec3<f32>
{
    var c_0 : vec3<f32> = clamp(color_0, vec3<f32>(0.0f, 0.0f, 0.0f), vec3<f32>(1.0f, 1.0f, 1.0f));
    var low_0 : vec3<f32> = c_0 / vec3<f32>(12.92000007629394531f);
    var high_0 : vec3<f32> = pow((c_0 + vec3<f32>(0.05499999970197678f)) / vec3<f32>(1.0549999475479126f), vec3<f32>(2.40000009536743164f, 2.40000009536743164f, 2.40000009536743164f));
    var _S46 : f32;
    if((c_0.x) <= 0.04044999927282333f)
    {
        _S46 = low_0.x;
    }
    else
    {
        _S46 = high_0.x;
    }
    var _S47 : f32;
    if((c_0.y) <= 0.04044999927282333f)
    {
        _S47 = low_0.y;
    }
    else
    {
        _S47 = high_0.y;
    }
    var _S48 : f32;
    if((c_0.z) <= 0.04044999927282333f)
    {
        _S48 = low_0.z;
    }
    else
    {
        _S48 = high_0.z;
    }
    return vec3<f32>(_S46, _S47, _S48);
}

fn ntLinearDiffuse( material_2 : NtMaterial) -> vec3<f32>
{
    var _S49 : vec3<f32>;
    if(NT_DIFFUSE_IS_SRGB == i32(1))
    {
        _S49 = ntSrgbToLinear(material_2.diffuse);
    }
    else
    {
//! with units of diffuse
        _S49 = (ntFileDiffuse((material_2.diffuse)));
//! without
        _S49 = material_2.diffuse;
//! both
    }
    return _S49;
}

fn ntLod( across_1 : vec2<f32>,  down_1 : vec2<f32>) -> f32
{
    var size_2 : vec2<f32> = vec2<f32>(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT);
    var a_0 : vec2<f32> = across_1 * size_2;
    var b_0 : vec2<f32> = down_1 * size_2;
    return 0.5f * log2(max(max(dot(a_0, a_0), dot(b_0, b_0)), 9.999999960041972e-13f));
}

fn ntFootprint( across_2 : vec2<f32>,  down_2 : vec2<f32>,  anisotropy_0 : f32) -> vec4<f32>
{
    var size_3 : vec2<f32> = vec2<f32>(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT);
    var _S50 : f32 = max(length(across_2 * size_3), 9.99999997475242708e-07f);
    var _S51 : f32 = max(length(down_2 * size_3), 9.99999997475242708e-07f);
    var _S52 : f32 = max(_S50, _S51);
    var _S53 : f32 = max(min(_S50, _S51), _S52 / max(anisotropy_0, 1.0f));
    var axis_3 : vec2<f32>;
    if(_S50 < _S51)
    {
        axis_3 = down_2;
    }
    else
    {
        axis_3 = across_2;
    }
    return vec4<f32>(axis_3.x, axis_3.y, _S52 / _S53, log2(_S53));
}

fn ntDecodeGrad( uv_6 : vec2<f32>,  across_3 : vec2<f32>,  down_3 : vec2<f32>,  anisotropy_1 : f32) -> NtMaterial
{
    var footprint_0 : vec4<f32> = ntFootprint(across_3, down_3, anisotropy_1);
    return ntDecodeFootprint(uv_6, footprint_0.w, vec2<f32>(footprint_0.x, footprint_0.y), footprint_0.z);
}

fn ntTexelCentre( uv_7 : vec2<f32>,  lod_6 : f32,  random_0 : vec2<f32>) -> vec2<f32>
{
    var _S54 : u32 = u32(i32(clamp(lod_6, 0.0f, f32(NT_NUM_LODS - i32(1))) + 0.5f));
    var size_4 : vec2<f32> = vec2<f32>(f32(max((i32(NT_MATERIAL_WIDTH) >> (_S54)), i32(1))), f32(max((i32(NT_MATERIAL_HEIGHT) >> (_S54)), i32(1))));
    var _S55 : vec2<f32> = vec2<f32>(0.5f);
    return (floor(uv_7 * size_4 - _S55 + random_0) + _S55) / size_4;
}
