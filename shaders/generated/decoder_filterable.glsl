// Generated from shaders/decoder.slang by shaders/generate.py; do not edit.

float ntTriangleWave(float coordinate_0, int octave_0)
{
    float x_0 = coordinate_0 * (0.5 * float(1U << uint(octave_0))) + 0.25 * float(octave_0);
    return 4.0 * abs(x_0 - floor(x_0) - 0.5) - 1.0;
}

int ntMipOf(int grid_0, int lod_0)
{
    return min(max(lod_0 - (ntGridSharedLods((grid_0))), 0), (ntGridMips((grid_0))) - 1);
}

int ntWrap(int texel_0, int resolution_0)
{
    int _S1;
    if(texel_0 < 0)
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

vec4 ntFeaturesOf(vec4 channels_0, int grid_1)
{
    return (channels_0 - 0.5) * (ntGridScale((grid_1)));
}

//!!! with whole numbers of 8 bits
float ntHalved(int times_0)
{
    return uintBitsToFloat(uint(127 - times_0) << 23U);
}

//!!! without
//!! with products of 16 bits
void ntAddFeatures(inout NT_HALF  inputs_0[NT_LAYER_WIDTH], vec2 uv_0, int lod_1, float share_0)
//!! without
//!!! both
void ntAddFeatures(inout float  inputs_0[NT_LAYER_WIDTH], vec2 uv_0, int lod_1, float share_0)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    int octave_1;
    int _S2;
    int _S3 = 2 * NT_NUM_FREQUENCIES;
    int grid_2 = 0;
    int first_0 = _S3;
    while(grid_2 < NT_NUM_GRIDS)
    {
        int mip_0 = ntMipOf(grid_2, lod_1);
//! with rectangles
        ivec2 resolution_1 = ivec2((ntGridSize((grid_2)))) >> mip_0;
        vec2 position_0 = uv_0 * vec2(resolution_1) - 0.5;
//! without
        int resolution_1 = (ntGridResolution((grid_2))) >> mip_0;
        vec2 position_0 = uv_0 * float(resolution_1) - 0.5;
//! both
        vec2 corner_0 = floor(position_0);
//!!! with whole numbers of 8 bits
        vec2 _S4 = floor((position_0 - corner_0) * 256.0 + 0.5) * 0.00390625;
//!!! without
        vec2 _S4 = position_0 - corner_0;
//!!! both
        int features_0 = (ntGridFeatures((grid_2)));
        bool learned_0 = (ntGridLearned((grid_2))) == 1;
        if(learned_0)
        {
            octave_1 = 4;
        }
        else
        {
            octave_1 = 0;
        }
        int which_0 = 0;
        while(which_0 < octave_1)
        {
            int _S5 = which_0 & 1;
            int _S6 = which_0 >> 1;
            ivec2 texel_1 = ivec2(corner_0) + ivec2(_S5, _S6);
//! with rectangles
            ivec2 texel_2 = ivec2(ntWrap(texel_1.x, resolution_1.x), ntWrap(texel_1.y, resolution_1.y));
//! without
            ivec2 texel_2 = ivec2(ntWrap(texel_1.x, resolution_1), ntWrap(texel_1.y, resolution_1));
//! both
            float across_0;
            if(_S5 == 0)
            {
                across_0 = 1.0 - _S4.x;
            }
            else
            {
                across_0 = _S4.x;
            }
            float down_0;
            if(_S6 == 0)
            {
                down_0 = 1.0 - _S4.y;
            }
            else
            {
                down_0 = _S4.y;
            }
            float _S7;
            if(learned_0)
            {
                _S7 = share_0;
            }
            else
            {
                _S7 = share_0 * (across_0 * down_0);
            }
            if(learned_0)
            {
                _S2 = first_0 + which_0 * features_0;
            }
            else
            {
                _S2 = first_0;
            }
            int plane_0 = 0;
            while(plane_0 < (ntGridPlanes((grid_2))))
            {
                vec4 _S8 = ntFeaturesOf((ntFetchTexel((grid_2), (plane_0), (texel_2), (mip_0))), grid_2);
                int _S9 = 4 * plane_0;
                int _S10 = min(4, features_0 - _S9);
                int k_0 = 0;
                while(k_0 < _S10)
                {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
                    inputs_0[_S2 + _S9 + k_0] = inputs_0[_S2 + _S9 + k_0] + NT_TO_HALF(_S7 * _S8[k_0]);
//!! without
//!!! both
                    inputs_0[_S2 + _S9 + k_0] = inputs_0[_S2 + _S9 + k_0] + _S7 * _S8[k_0];
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
                    k_0 = k_0 + 1;
                }
                plane_0 = plane_0 + 1;
            }
            which_0 = which_0 + 1;
        }
        if(learned_0)
        {
            _S2 = 4 * features_0;
        }
        else
        {
            _S2 = features_0;
        }
        int first_1 = first_0 + _S2;
        grid_2 = grid_2 + 1;
        first_0 = first_1;
    }
    int _S11 = NT_NUM_TEXEL_FREQUENCIES;
    if(_S11 > 0)
    {
//! with rectangles
        vec2 _S12 = uv_0 * vec2(ivec2((ntGridSize((0)))) >> (ntMipOf(0, lod_1))) - 0.5;
//! without
        vec2 _S12 = uv_0 * float((ntGridResolution((0))) >> (ntMipOf(0, lod_1))) - 0.5;
//! both
        octave_1 = 0;
        while(octave_1 < _S11)
        {
//!!! with whole numbers of 8 bits
            vec2 x_1 = _S12 * ntHalved(octave_1);
//!!! without
            vec2 x_1 = _S12 / float(1U << uint(octave_1));
//!!! both
            vec2 wave_0 = 2.0 * (x_1 - floor(x_1)) - 1.0;
            int _S13 = NT_FIRST_TEXEL_WAVE;
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
            inputs_0[_S13 + octave_1] = inputs_0[_S13 + octave_1] + NT_TO_HALF(share_0 * wave_0.x);
            inputs_0[_S13 + _S11 + octave_1] = inputs_0[_S13 + _S11 + octave_1] + NT_TO_HALF(share_0 * wave_0.y);
//!! without
//!!! both
            inputs_0[_S13 + octave_1] = inputs_0[_S13 + octave_1] + share_0 * wave_0.x;
            inputs_0[_S13 + _S11 + octave_1] = inputs_0[_S13 + _S11 + octave_1] + share_0 * wave_0.y;
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
            octave_1 = octave_1 + 1;
        }
    }
    return;
}

//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
void ntDecoderInputs(out NT_HALF  inputs_1[NT_LAYER_WIDTH], vec2 uv_1, int near_0, int far_0, float blend_0, float lod_2)
//!! without
//!!! both
void ntDecoderInputs(out float  inputs_1[NT_LAYER_WIDTH], vec2 uv_1, int near_0, int far_0, float blend_0, float lod_2)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    float _S14;
    int _S15 = NT_FIRST_TEXEL_WAVE;
    int _S16 = _S15 + 2 * NT_NUM_TEXEL_FREQUENCIES;
    int i_0 = 0;
    while(i_0 < NT_LAYER_WIDTH)
    {
        bool one_0;
        if(i_0 >= NT_NUM_REFERENCE_INPUTS)
        {
            if(i_0 < _S15)
            {
                one_0 = true;
            }
            else
            {
                one_0 = i_0 >= _S16;
            }
        }
        else
        {
            one_0 = false;
        }
        if(one_0)
        {
            _S14 = 1.0;
        }
        else
        {
            _S14 = 0.0;
        }
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        inputs_1[i_0] = NT_TO_HALF(_S14);
//!! without
//!!! both
        inputs_1[i_0] = _S14;
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
        i_0 = i_0 + 1;
    }
    int _S17 = NT_NUM_FREQUENCIES;
    int octave_2 = 0;
    while(octave_2 < _S17)
    {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        inputs_1[octave_2] = NT_TO_HALF(ntTriangleWave(uv_1.x, octave_2));
        inputs_1[_S17 + octave_2] = NT_TO_HALF(ntTriangleWave(uv_1.y, octave_2));
//!! without
//!!! both
        inputs_1[octave_2] = ntTriangleWave(uv_1.x, octave_2);
        inputs_1[_S17 + octave_2] = ntTriangleWave(uv_1.y, octave_2);
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
        octave_2 = octave_2 + 1;
    }
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
    inputs_1[NT_NUM_REFERENCE_INPUTS - 1] = NT_TO_HALF(lod_2 / float(max(NT_NUM_LODS - 1, 1)));
//!! without
//!!! both
    inputs_1[NT_NUM_REFERENCE_INPUTS - 1] = lod_2 / float(max(NT_NUM_LODS - 1, 1));
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
    if(blend_0 > 0.0)
    {
        i_0 = 2;
    }
    else
    {
        i_0 = 1;
    }
    int i_1 = 0;
    while(i_1 < i_0)
    {
        bool _S18 = i_1 == 0;
        if(_S18)
        {
            octave_2 = near_0;
        }
        else
        {
            octave_2 = far_0;
        }
        if(_S18)
        {
            _S14 = 1.0 - blend_0;
        }
        else
        {
            _S14 = blend_0;
        }
        ntAddFeatures(inputs_1, uv_1, octave_2, _S14);
        i_1 = i_1 + 1;
    }
    return;
}

vec4 ntSample(int grid_3, int plane_1, vec2 uv_2, float mip_1, vec2 axis_0, float ratio_0)
{
    if(ratio_0 < 0.5)
    {
        return (ntSampleTexel((grid_3), (plane_1), (uv_2), (mip_1)));
    }
//! with rectangles
    vec2 resolution_2 = (ntGridSize((grid_3)));
//! without
    float resolution_2 = float((ntGridResolution((grid_3))));
//! both
    float narrow_0 = (exp2((mip_1)));
//! with rectangles
    vec2 longer_0 = axis_0 * resolution_2;
    float size_0 = length(longer_0);
//! without
    float size_0 = length(axis_0);
//! both
    vec2 direction_0;
    if(size_0 > 0.0)
    {
//! with rectangles
        direction_0 = longer_0 / size_0;
//! without
        direction_0 = axis_0 / size_0;
//! both
    }
    else
    {
        direction_0 = vec2(1.0, 0.0);
    }
//! with rectangles
    return (ntSampleTexelGrad((grid_3), (plane_1), (uv_2), (direction_0 * clamp(size_0, narrow_0, narrow_0 * ratio_0) / resolution_2), (vec2(- direction_0.y, direction_0.x) * narrow_0 / resolution_2)));
//! without
    return (ntSampleTexelGrad((grid_3), (plane_1), (uv_2), (direction_0 * (clamp(size_0 * resolution_2, narrow_0, narrow_0 * ratio_0) / resolution_2)), (vec2(- direction_0.y, direction_0.x) * (narrow_0 / resolution_2))));
//! both
}

//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
void ntAddSampledFeatures(inout NT_HALF  inputs_2[NT_LAYER_WIDTH], vec2 uv_3, float lod_3, vec2 axis_1, float ratio_1)
//!! without
//!!! both
void ntAddSampledFeatures(inout float  inputs_2[NT_LAYER_WIDTH], vec2 uv_3, float lod_3, vec2 axis_1, float ratio_1)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    int k_1;
    int _S19 = 2 * NT_NUM_FREQUENCIES;
    int grid_4 = 0;
    int first_2 = _S19;
    while(grid_4 < NT_NUM_GRIDS)
    {
        bool learned_1 = (ntGridLearned((grid_4))) == 1;
        int features_1 = (ntGridFeatures((grid_4)));
        float _S20 = min(max(lod_3 - float((ntGridSharedLods((grid_4)))), 0.0), float((ntGridMips((grid_4))) - 1));
        int _S21;
        if(learned_1)
        {
            _S21 = 0;
        }
        else
        {
            _S21 = (ntGridPlanes((grid_4)));
        }
        int plane_2 = 0;
        while(plane_2 < _S21)
        {
            vec4 _S22 = ntFeaturesOf(ntSample(grid_4, plane_2, uv_3, _S20, axis_1, ratio_1), grid_4);
            int _S23 = 4 * plane_2;
            int _S24 = min(4, features_1 - _S23);
            k_1 = 0;
            while(k_1 < _S24)
            {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
                inputs_2[first_2 + _S23 + k_1] = inputs_2[first_2 + _S23 + k_1] + NT_TO_HALF(_S22[k_1]);
//!! without
//!!! both
                inputs_2[first_2 + _S23 + k_1] = inputs_2[first_2 + _S23 + k_1] + _S22[k_1];
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
                k_1 = k_1 + 1;
            }
            plane_2 = plane_2 + 1;
        }
        if(learned_1)
        {
            k_1 = 4 * features_1;
        }
        else
        {
            k_1 = features_1;
        }
        int first_3 = first_2 + k_1;
        grid_4 = grid_4 + 1;
        first_2 = first_3;
    }
    return;
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
//!!! both
}

//!!! with whole numbers of 8 bits
uvec4 ntInputBytes(vec4 inputs_3)
//!!! without
NT_HALF4 ntBlock(int column_0, NT_HALF4 inputs_3)
//!!! both
{
//!!! with whole numbers of 8 bits
    return uvec4((ivec4(floor(inputs_3 * 16384.0 + 0.5)) * 255 + 4194304) >> 15);
//!!! without
    return (ntWeights((column_0))) * inputs_3.x + (ntWeights((column_0 + 1))) * inputs_3.y + (ntWeights((column_0 + 2))) * inputs_3.z + (ntWeights((column_0 + 3))) * inputs_3.w;
//!! without
//!! both
//!!! both
}

//!!! with whole numbers of 8 bits
uint ntPack(uvec4 inputs_4)
//!!! without
float ntActivate(float x_2)
//!!! both
{
//!!! with whole numbers of 8 bits
    return ((((inputs_4.x) | ((inputs_4.y) << 8U)) | ((inputs_4.z) << 16U)) | ((inputs_4.w) << 24U)) ^ 2155905152U;
//!!! without
    if(NT_HARD_SWISH == 1)
    {
        return x_2 * clamp(x_2 + 3.0, 0.0, 6.0) / 6.0;
    }
    float _S25;
    if(x_2 > 0.0)
    {
        _S25 = x_2;
    }
    else
    {
        _S25 = NT_NEGATIVE_SLOPE * x_2;
    }
    return _S25;
//!!! both
}

//!!! with whole numbers of 8 bits
void ntNetwork(inout float  values_0[NT_LAYER_WIDTH], out float  found_0[16])
//!!! without
//!! with products of 16 bits
void ntNetwork(inout NT_HALF  values_0[NT_LAYER_WIDTH], out float  found_0[16])
//!! without
void ntNetwork(inout float  values_0[NT_LAYER_WIDTH])
//!! both
//!!! both
{
//!!! with whole numbers of 8 bits
    uint  words_0[NT_LAYER_WORDS];
    int _S25 = NT_NUM_INPUTS / 4;
    int i_2 = 0;
    while(i_2 < _S25)
    {
        int _S26 = 4 * i_2;
        words_0[i_2] = ntPack(ntInputBytes(vec4(values_0[_S26], values_0[_S26 + 1], values_0[_S26 + 2], values_0[_S26 + 3])));
        i_2 = i_2 + 1;
    }
//!!! without
//!! with products of 16 bits
    int first_4;
    int _S26 = NT_GROUP_INPUTS;
//!!! both
    int _S27 = NT_NUM_HIDDEN_LAYERS + 1;
//!!! with whole numbers of 8 bits
    int count_0 = _S25;
//!!! without
//!! without
    int i_2;
    int _S26 = NT_NUM_HIDDEN_LAYERS + 1;
//!! both
    int inputCount_0 = NT_NUM_INPUTS;
//!!! both
    int layer_0 = 0;
//!!! with whole numbers of 8 bits
    int at_0 = 0;
//!!! without
//!! with products of 16 bits
    int column_1 = 0;
//!!! both
    while(layer_0 < _S27)
//!!! with whole numbers of 8 bits
//!!! without
//!! without
    int column_0 = 0;
    while(layer_0 < _S26)
//!! both
//!!! both
    {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
//!!! both
        bool last_0 = layer_0 == (_S27 - 1);
//!!! with whole numbers of 8 bits
        const ivec4 _S28 = ivec4(0, 0, 0, 0);
        bool _S29 = !last_0;
        int at_1;
        ivec4 shifts_0;
        ivec4 constants_0;
        if(_S29)
//!!! without
//!! without
        bool last_0 = layer_0 == (_S26 - 1);
//!! both
        int outputCount_0;
        if(last_0)
//!!! both
        {
//!!! with whole numbers of 8 bits
            ivec4 _S30 = ivec4((ntWeights((at_0 + 1))));
            int at_2 = at_0 + 2;
            shifts_0 = ivec4((ntWeights((at_0))));
            constants_0 = _S30;
            at_1 = at_2;
//!!! without
            outputCount_0 = 16;
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            shifts_0 = _S28;
            constants_0 = _S28;
            at_1 = at_0;
//!!! without
            outputCount_0 = NT_NUM_NEURONS;
//!!! both
        }
//!!! with whole numbers of 8 bits
        uint  next_0[NT_LAYER_WORDS];
        int outputWords_0;
        if(last_0)
        {
            outputWords_0 = 4;
        }
        else
        {
            outputWords_0 = NT_NUM_NEURONS / 4;
        }
//!!! without
//!! with products of 16 bits
        NT_HALF  outputs_0[NT_LAYER_WIDTH];
//!! without
        float  outputs_0[NT_LAYER_WIDTH];
//!! both
//!!! both
        int row_0 = 0;
//!!! with whole numbers of 8 bits
        at_0 = at_1;
        while(row_0 < outputWords_0)
//!!! without
        while(row_0 < outputCount_0)
//!!! both
        {
//!!! with whole numbers of 8 bits
            uvec4 factors_0 = (ntWeights((at_0 + 1)));
            int at_3 = at_0 + 2;
            ivec4 sums_0 = ivec4((ntWeights((at_0))));
//!!! without
//!! with products of 16 bits
            const vec4 _S28 = vec4(0.0, 0.0, 0.0, 0.0);
            first_4 = 0;
            vec4 sum_0 = _S28;
            while(first_4 < inputCount_0)
//!! without
            const vec4 _S27 = vec4(0.0, 0.0, 0.0, 0.0);
//!!! both
            i_2 = 0;
//!!! with whole numbers of 8 bits
            while(i_2 < count_0)
//!!! without
            vec4 sum_0 = _S27;
            while(i_2 < inputCount_0)
//!! both
//!!! both
            {
//!!! with whole numbers of 8 bits
                ivec4 _S31 = (ntDots(((ntWeights((at_3 + i_2)))), (words_0[i_2]), (sums_0)));
                int _S32 = i_2 + 1;
                sums_0 = _S31;
                i_2 = _S32;
//!!! without
//!! with products of 16 bits
                NT_HALF4 _S29 = ntBlock(column_1 + first_4, NT_TO_HALF4(values_0[first_4], values_0[first_4 + 1], values_0[first_4 + 2], values_0[first_4 + 3]));
                int next_0 = 4;
                NT_HALF4 part_0 = _S29;
                while(next_0 < _S26)
                {
                    int i_2 = first_4 + next_0;
                    NT_HALF4 part_1 = part_0 + ntBlock(column_1 + i_2, NT_TO_HALF4(values_0[i_2], values_0[i_2 + 1], values_0[i_2 + 2], values_0[i_2 + 3]));
                    next_0 = next_0 + 4;
                    part_0 = part_1;
                }
                vec4 sum_1 = sum_0 + vec4(part_0);
                first_4 = first_4 + _S26;
//!! without
                vec4 sum_1 = sum_0 + (ntWeights((column_0 + i_2))) * values_0[i_2];
                i_2 = i_2 + 1;
//!! both
                sum_0 = sum_1;
//!!! both
            }
//!!! with whole numbers of 8 bits
            int at_4 = at_3 + count_0;
//!!! without
//!! with products of 16 bits
            int column_2 = column_1 + inputCount_0;
//!! without
            int column_1 = column_0 + inputCount_0;
//!! both
//! with scales of rows
            vec4 sum_2 = sum_0 * (ntWeightScales(((layer_0 * NT_NUM_NEURONS + row_0) / 4)));
//!! with products of 16 bits
//!! without
            vec4 sum_3;
//!! both
//! without
//!! with products of 16 bits
//!! without
            vec4 sum_2;
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
                vec4 outputs_0 = vec4(sums_0) * uintBitsToFloat(factors_0);
                int _S33 = 4 * row_0;
                found_0[_S33] = outputs_0.x;
                found_0[_S33 + 1] = outputs_0.y;
                found_0[_S33 + 2] = outputs_0.z;
                found_0[_S33 + 3] = outputs_0.w;
//!!! without
//! with scales of rows
//!! with products of 16 bits
                found_0[row_0] = sum_2.x;
                found_0[row_0 + 1] = sum_2.y;
                found_0[row_0 + 2] = sum_2.z;
                found_0[row_0 + 3] = sum_2.w;
//!! without
                sum_3 = vec4(ntActivate(sum_2.x), ntActivate(sum_2.y), ntActivate(sum_2.z), ntActivate(sum_2.w));
//!! both
//! without
//!! with products of 16 bits
                found_0[row_0] = sum_0.x;
                found_0[row_0 + 1] = sum_0.y;
                found_0[row_0 + 2] = sum_0.z;
                found_0[row_0 + 3] = sum_0.w;
//!! without
                sum_2 = vec4(ntActivate(sum_0.x), ntActivate(sum_0.y), ntActivate(sum_0.z), ntActivate(sum_0.w));
//!! both
//! both
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                ivec4 p_0 = ((sums_0 >> (shifts_0.x)) * ivec4(factors_0) + shifts_0.w) >> (shifts_0.y);
                ivec4 y_0;
                if(NT_HARD_SWISH == 1)
                {
                    int _S34 = constants_0.y;
                    y_0 = min(p_0, ivec4(constants_0.x)) * clamp(p_0 + _S34, ivec4(0), ivec4(2 * _S34));
                }
                else
                {
                    const ivec4 _S35 = ivec4(0);
                    y_0 = max(p_0, _S35) + ((clamp(p_0, ivec4(- constants_0.x), _S35) * constants_0.z) >> 15);
                }
                next_0[row_0] = ntPack(uvec4(clamp((y_0 + constants_0.w) >> (shifts_0.z), ivec4(0), ivec4(255))));
//!!! without
//! with scales of rows
//!! with products of 16 bits
                outputs_0[row_0] = NT_TO_HALF(ntActivate(sum_2.x));
                outputs_0[row_0 + 1] = NT_TO_HALF(ntActivate(sum_2.y));
                outputs_0[row_0 + 2] = NT_TO_HALF(ntActivate(sum_2.z));
                outputs_0[row_0 + 3] = NT_TO_HALF(ntActivate(sum_2.w));
//!! without
                sum_3 = sum_2;
//!! both
//! without
//!! with products of 16 bits
                outputs_0[row_0] = NT_TO_HALF(ntActivate(sum_0.x));
                outputs_0[row_0 + 1] = NT_TO_HALF(ntActivate(sum_0.y));
                outputs_0[row_0 + 2] = NT_TO_HALF(ntActivate(sum_0.z));
                outputs_0[row_0 + 3] = NT_TO_HALF(ntActivate(sum_0.w));
//!! without
                sum_2 = sum_0;
//!! both
//! both
//!!! both
            }
//!!! with whole numbers of 8 bits
            row_0 = row_0 + 1;
            at_0 = at_4;
//!!! without
//!! with products of 16 bits
//!! without
//! with scales of rows
            outputs_0[row_0] = sum_3.x;
            outputs_0[row_0 + 1] = sum_3.y;
            outputs_0[row_0 + 2] = sum_3.z;
            outputs_0[row_0 + 3] = sum_3.w;
//! without
            outputs_0[row_0] = sum_2.x;
            outputs_0[row_0 + 1] = sum_2.y;
            outputs_0[row_0 + 2] = sum_2.z;
            outputs_0[row_0 + 3] = sum_2.w;
//! both
//!! both
            row_0 = row_0 + 4;
//!! with products of 16 bits
            column_1 = column_2;
//!! without
            column_0 = column_1;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        if(_S29)
//!!! without
//!! with products of 16 bits
        if(!last_0)
//!! without
        i_2 = 0;
        while(i_2 < outputCount_0)
//!! both
//!!! both
        {
//!!! with whole numbers of 8 bits
            int k_2 = 0;
            while(k_2 < outputWords_0)
//!!! without
//!! with products of 16 bits
            first_4 = 0;
            while(first_4 < outputCount_0)
//!!! both
            {
//!!! with whole numbers of 8 bits
                words_0[k_2] = next_0[k_2];
                k_2 = k_2 + 1;
//!!! without
                values_0[first_4] = outputs_0[first_4];
                first_4 = first_4 + 1;
//!!! both
            }
//!!! with whole numbers of 8 bits
//!!! without
//!! without
            values_0[i_2] = outputs_0[i_2];
            i_2 = i_2 + 1;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        int _S36 = layer_0 + 1;
        count_0 = outputWords_0;
        layer_0 = _S36;
//!!! without
//!! with products of 16 bits
        int _S30 = layer_0 + 1;
//!! without
        int _S28 = layer_0 + 1;
//!! both
        inputCount_0 = outputCount_0;
//!! with products of 16 bits
        layer_0 = _S30;
//!! without
        layer_0 = _S28;
//!! both
//!!! both
    }
    return;
}

struct NtMaterial
{
    vec3 diffuse;
    vec3 normal;
    float roughness;
    float occlusion;
    float metallic;
    float specular;
    float displacement;
//! with extra maps
    float opacity;
    vec3 emissive;
    float extra;
//! without
//! both
};

NtMaterial ntDecodeFootprint(vec2 uv_4, float lod_4, vec2 axis_2, float ratio_2)
{
//!!! with whole numbers of 8 bits
    int _S37 = NT_NUM_LODS - 1;
    float level_0 = clamp(lod_4, 0.0, float(_S37));
    vec2 _S38 = uv_4 - floor(uv_4);
//!!! without
//!! with products of 16 bits
    int _S31 = NT_NUM_LODS - 1;
    float level_0 = clamp(lod_4, 0.0, float(_S31));
    vec2 _S32 = uv_4 - floor(uv_4);
//!! without
    int _S29 = NT_NUM_LODS - 1;
    float level_0 = clamp(lod_4, 0.0, float(_S29));
    vec2 _S30 = uv_4 - floor(uv_4);
//!! both
//!!! both
    int near_1 = int(level_0);
//!!! with whole numbers of 8 bits
    int _S39 = min(near_1 + 1, _S37);
//!!! without
//!! with products of 16 bits
    int _S33 = min(near_1 + 1, _S31);
//!! without
    int _S31 = min(near_1 + 1, _S29);
//!! both
//!!! both
    float blend_1 = level_0 - float(near_1);
    bool twice_0 = NT_BLEND_OUTPUTS == 1;
//!!! with whole numbers of 8 bits
    bool _S40;
//!!! without
//!! with products of 16 bits
    bool _S34;
//!! without
    bool _S32;
//!! both
//!!! both
    if(twice_0)
    {
//!!! with whole numbers of 8 bits
        _S40 = blend_1 > 0.0;
//!!! without
//!! with products of 16 bits
        _S34 = blend_1 > 0.0;
//!! without
        _S32 = blend_1 > 0.0;
//!! both
//!!! both
    }
    else
    {
//!!! with whole numbers of 8 bits
        _S40 = false;
//!!! without
//!! with products of 16 bits
        _S34 = false;
//!! without
        _S32 = false;
//!! both
//!!! both
    }
    int channel_0;
//!!! with whole numbers of 8 bits
    if(_S40)
//!!! without
//!! with products of 16 bits
    if(_S34)
//!! without
    if(_S32)
//!! both
//!!! both
    {
        channel_0 = 2;
    }
    else
    {
        channel_0 = 1;
    }
    float  decoded_0[16];
    int pass_0 = 0;
    while(pass_0 < channel_0)
    {
//!!! with whole numbers of 8 bits
        bool _S41 = pass_0 == 0;
//!!! without
//!! with products of 16 bits
        bool _S35 = pass_0 == 0;
//!! without
        bool _S33 = pass_0 == 0;
//!! both
//!!! both
        int lower_0;
//!!! with whole numbers of 8 bits
        if(_S41)
//!!! without
//!! with products of 16 bits
        if(_S35)
//!! without
        if(_S33)
//!! both
//!!! both
        {
            lower_0 = near_1;
        }
        else
        {
//!!! with whole numbers of 8 bits
            lower_0 = _S39;
//!!! without
//!! with products of 16 bits
            lower_0 = _S33;
//!! without
            lower_0 = _S31;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        NT_HALF  values_1[NT_LAYER_WIDTH];
        float _S36;
//!! without
//!!! both
        float  values_1[NT_LAYER_WIDTH];
//!!! with whole numbers of 8 bits
        float _S42;
//!!! without
        float _S34;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S42 = 0.0;
//!!! without
//!! with products of 16 bits
            _S36 = 0.0;
//!! without
            _S34 = 0.0;
//!! both
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S42 = blend_1;
//!!! without
//!! with products of 16 bits
            _S36 = blend_1;
//!! without
            _S34 = blend_1;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        float _S43;
//!!! without
//!! with products of 16 bits
        float _S37;
//!! without
        float _S35;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S43 = float(lower_0);
//!!! without
//!! with products of 16 bits
            _S37 = float(lower_0);
//!! without
            _S35 = float(lower_0);
//!! both
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S43 = level_0;
//!!! without
//!! with products of 16 bits
            _S37 = level_0;
//!! without
            _S35 = level_0;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        ntDecoderInputs(values_1, _S38, lower_0, _S39, _S42, _S43);
        float _S44;
//!!! without
//!! with products of 16 bits
        ntDecoderInputs(values_1, _S32, lower_0, _S33, _S36, _S37);
        float _S38;
//!! without
        ntDecoderInputs(values_1, _S30, lower_0, _S31, _S34, _S35);
        float _S36;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S44 = float(lower_0);
//!!! without
//!! with products of 16 bits
            _S38 = float(lower_0);
//!! without
            _S36 = float(lower_0);
//!! both
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S44 = level_0;
//!!! without
//!! with products of 16 bits
            _S38 = level_0;
//!! without
            _S36 = level_0;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        ntAddSampledFeatures(values_1, _S38, _S44, axis_2, ratio_2);
//!!! without
//!! with products of 16 bits
        ntAddSampledFeatures(values_1, _S32, _S38, axis_2, ratio_2);
//!!! both
        float  found_1[16];
        ntNetwork(values_1, found_1);
//!!! with whole numbers of 8 bits
//!!! without
//!! without
        ntAddSampledFeatures(values_1, _S30, _S36, axis_2, ratio_2);
        ntNetwork(values_1);
//!! both
//!!! both
        int i_3 = 0;
        while(i_3 < 16)
        {
//!!! with whole numbers of 8 bits
            float _S45;
            if(_S41)
//!!! without
//!! with products of 16 bits
            float _S39;
            if(_S35)
//!! without
            float _S37;
            if(_S33)
//!! both
//!!! both
            {
//!!! with whole numbers of 8 bits
                _S45 = found_1[i_3];
//!!! without
//!! with products of 16 bits
                _S39 = found_1[i_3];
//!! without
                _S37 = values_1[i_3];
//!! both
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                _S45 = decoded_0[i_3] + blend_1 * (found_1[i_3] - decoded_0[i_3]);
//!!! without
//!! with products of 16 bits
                _S39 = decoded_0[i_3] + blend_1 * (found_1[i_3] - decoded_0[i_3]);
//!! without
                _S37 = decoded_0[i_3] + blend_1 * (values_1[i_3] - decoded_0[i_3]);
//!! both
//!!! both
            }
//!!! with whole numbers of 8 bits
            decoded_0[i_3] = _S45;
//!!! without
//!! with products of 16 bits
            decoded_0[i_3] = _S39;
//!! without
            decoded_0[i_3] = _S37;
//!! both
//!!! both
            i_3 = i_3 + 1;
        }
        pass_0 = pass_0 + 1;
    }
    channel_0 = 0;
//! with extra maps
    while(channel_0 < 16)
//! without
    while(channel_0 < 11)
//! both
    {
        if((ntIsConstant((channel_0))) == 1)
        {
            decoded_0[channel_0] = (ntConstantValue((channel_0)));
        }
        channel_0 = channel_0 + 1;
    }
    NtMaterial material_0;
    material_0.diffuse = vec3(decoded_0[0], decoded_0[1], decoded_0[2]);
    material_0.normal = vec3(decoded_0[3], decoded_0[4], decoded_0[5]);
    material_0.roughness = decoded_0[6];
    material_0.occlusion = decoded_0[7];
    material_0.metallic = decoded_0[8];
    material_0.specular = decoded_0[9];
    material_0.displacement = decoded_0[10];
//! with extra maps
    material_0.opacity = decoded_0[11];
    material_0.emissive = vec3(decoded_0[12], decoded_0[13], decoded_0[14]);
    material_0.extra = decoded_0[15];
//! without
//! both
    return material_0;
}

NtMaterial ntDecode(vec2 uv_5, float lod_5)
{
    return ntDecodeFootprint(uv_5, lod_5, vec2(0.0, 0.0), 0.0);
}

vec3 ntUnitNormal(NtMaterial material_1)
{
    vec3 vector_0 = material_1.normal * 2.0 - 1.0;
    float size_1 = length(vector_0);
    bool _S38;
    if(NT_HAS_NORMAL == 1)
    {
        _S38 = size_1 > 9.99999997475242708e-07;
    }
    else
    {
        _S38 = false;
    }
    vec3 _S39;
    if(_S38)
    {
        _S39 = vector_0 / size_1;
    }
    else
    {
        _S39 = vec3(0.0, 0.0, 1.0);
    }
    return _S39;
}

vec3 ntSrgbToLinear(vec3 color_0)
{
    vec3 c_0 = clamp(color_0, vec3(0.0, 0.0, 0.0), vec3(1.0, 1.0, 1.0));
    vec3 low_0 = c_0 / 12.92000007629394531;
    vec3 high_0 = pow((c_0 + 0.05499999970197678) / 1.0549999475479126, vec3(2.40000009536743164, 2.40000009536743164, 2.40000009536743164));
    float _S40;
    if((c_0.x) <= 0.04044999927282333)
    {
        _S40 = low_0.x;
    }
    else
    {
        _S40 = high_0.x;
    }
    float _S41;
    if((c_0.y) <= 0.04044999927282333)
    {
        _S41 = low_0.y;
    }
    else
    {
        _S41 = high_0.y;
    }
    float _S42;
    if((c_0.z) <= 0.04044999927282333)
    {
        _S42 = low_0.z;
    }
    else
    {
        _S42 = high_0.z;
    }
    return vec3(_S40, _S41, _S42);
}

vec3 ntLinearDiffuse(NtMaterial material_2)
{
    vec3 _S43;
    if(NT_DIFFUSE_IS_SRGB == 1)
    {
        _S43 = ntSrgbToLinear(material_2.diffuse);
    }
    else
    {
//! with units of diffuse
        _S43 = (ntFileDiffuse((material_2.diffuse)));
//! without
        _S43 = material_2.diffuse;
//! both
    }
    return _S43;
}

float ntLod(vec2 across_1, vec2 down_1)
{
    vec2 size_2 = vec2(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT);
    vec2 a_0 = across_1 * size_2;
    vec2 b_0 = down_1 * size_2;
    return 0.5 * log2(max(max(dot(a_0, a_0), dot(b_0, b_0)), 9.999999960041972e-13));
}

vec4 ntFootprint(vec2 across_2, vec2 down_2, float anisotropy_0)
{
    vec2 size_3 = vec2(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT);
    float _S44 = max(length(across_2 * size_3), 9.99999997475242708e-07);
    float _S45 = max(length(down_2 * size_3), 9.99999997475242708e-07);
    float _S46 = max(_S44, _S45);
    float _S47 = max(min(_S44, _S45), _S46 / max(anisotropy_0, 1.0));
    vec2 axis_3;
    if(_S44 < _S45)
    {
        axis_3 = down_2;
    }
    else
    {
        axis_3 = across_2;
    }
    return vec4(axis_3.x, axis_3.y, _S46 / _S47, log2(_S47));
}

NtMaterial ntDecodeGrad(vec2 uv_6, vec2 across_3, vec2 down_3, float anisotropy_1)
{
    vec4 footprint_0 = ntFootprint(across_3, down_3, anisotropy_1);
    return ntDecodeFootprint(uv_6, footprint_0.w, vec2(footprint_0.x, footprint_0.y), footprint_0.z);
}

vec2 ntTexelCentre(vec2 uv_7, float lod_6, vec2 random_0)
{
    int level_1 = int(clamp(lod_6, 0.0, float(NT_NUM_LODS - 1)) + 0.5);
    vec2 size_4 = vec2(float(max(int(NT_MATERIAL_WIDTH) >> level_1, 1)), float(max(int(NT_MATERIAL_HEIGHT) >> level_1, 1)));
    return (floor(uv_7 * size_4 - 0.5 + random_0) + 0.5) / size_4;
}
