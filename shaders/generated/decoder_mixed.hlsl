// Generated from shaders/decoder.slang by shaders/generate.py; do not edit.

float ntTriangleWave(float coordinate_0, int octave_0)
{
    float x_0 = coordinate_0 * (0.5f * float(1U << uint(octave_0))) + 0.25f * float(octave_0);
    return 4.0f * abs(x_0 - floor(x_0) - 0.5f) - 1.0f;
}

int ntMipOf(int grid_0, int lod_0)
{
    return min(max(lod_0 - (ntGridSharedLods((grid_0))), int(0)), (ntGridMips((grid_0))) - int(1));
}

int ntWrap(int texel_0, int resolution_0)
{
    int _S1;
    if(texel_0 < int(0))
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

float4 ntFeaturesOf(float4 channels_0, int grid_1)
{
    return (channels_0 - 0.5f) * (ntGridScale((grid_1)));
}

uint2 ntLoadWord(int grid_2, int2 texel_1, int mip_0)
{
    uint2 word_0 = uint2(0U, 0U);
    int plane_0 = int(0);
    while(plane_0 < (ntGridPlanes((grid_2))))
    {
        uint4 _S2 = uint4((ntFetchTexel((grid_2), (plane_0), (texel_1), (mip_0))) * 255.0f + 0.5f);
        uint packed_0 = ((((_S2.x) << 24U) | ((_S2.y) << 16U)) | ((_S2.z) << 8U)) | (_S2.w);
        if(plane_0 == int(0))
        {
            word_0[int(0)] = packed_0;
        }
        else
        {
            word_0[int(1)] = packed_0;
        }
        plane_0 = plane_0 + int(1);
    }
    return word_0;
}

//!!! with whole numbers of 8 bits
float ntHalved(int times_0)
{
    return asfloat(uint(int(127) - times_0) << 23U);
}

//!!! without
//!!! both
float ntFeatureOf(uint2 word_1, int index_0, int bits_0)
{
    int first_0 = index_0 * bits_0;
    uint plane_1;
    if(first_0 < int(32))
    {
        plane_1 = word_1.x;
    }
    else
    {
        plane_1 = word_1.y;
    }
    uint _S3 = 1U << uint(bits_0);
//!!! with whole numbers of 8 bits
    return (float((plane_1 >> uint(int(32) - bits_0 - (first_0 & int(31)))) & (_S3 - 1U)) - (float(_S3) - 1.0f) * 0.5f) * ntHalved(bits_0);
//!!! without
    float n_0 = float(_S3);
    return (float((plane_1 >> uint(int(32) - bits_0 - (first_0 & int(31)))) & (_S3 - 1U)) - (n_0 - 1.0f) * 0.5f) / n_0;
//!!! both
}

//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
void ntAddFeatures(inout NT_HALF  inputs_0[NT_LAYER_WIDTH], float2 uv_0, int lod_1, float share_0)
//!! without
//!!! both
void ntAddFeatures(inout float  inputs_0[NT_LAYER_WIDTH], float2 uv_0, int lod_1, float share_0)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    int octave_1;
    int _S4;
    int _S5 = int(2) * NT_NUM_FREQUENCIES;
    int grid_3 = int(0);
    int first_1 = _S5;
    while(grid_3 < NT_NUM_GRIDS)
    {
        int mip_1 = ntMipOf(grid_3, lod_1);
//! with rectangles
        int2 resolution_1 = int2((ntGridSize((grid_3)))) >> mip_1;
        float2 position_0 = uv_0 * float2(resolution_1) - 0.5f;
//! without
        int resolution_1 = (ntGridResolution((grid_3))) >> mip_1;
        float2 position_0 = uv_0 * float(resolution_1) - 0.5f;
//! both
        float2 corner_0 = floor(position_0);
//!!! with whole numbers of 8 bits
        float2 _S6 = floor((position_0 - corner_0) * 256.0f + 0.5f) * 0.00390625f;
//!!! without
        float2 _S6 = position_0 - corner_0;
//!!! both
        int features_0 = (ntGridFeatures((grid_3)));
        int _S7 = (ntGridBits((grid_3)));
        bool learned_0 = (ntGridLearned((grid_3))) == int(1);
        bool _S8;
        if(learned_0)
        {
            _S8 = true;
        }
        else
        {
            _S8 = (ntGridWords((grid_3))) == int(1);
        }
        if(_S8)
        {
            octave_1 = int(4);
        }
        else
        {
            octave_1 = int(0);
        }
        int which_0 = int(0);
        while(which_0 < octave_1)
        {
            int _S9 = which_0 & int(1);
            int _S10 = which_0 >> int(1);
            int2 texel_2 = int2(corner_0) + int2(_S9, _S10);
//! with rectangles
            int2 texel_3 = int2(ntWrap(texel_2.x, resolution_1.x), ntWrap(texel_2.y, resolution_1.y));
//! without
            int2 texel_3 = int2(ntWrap(texel_2.x, resolution_1), ntWrap(texel_2.y, resolution_1));
//! both
            float across_0;
            if(_S9 == int(0))
            {
                across_0 = 1.0f - _S6.x;
            }
            else
            {
                across_0 = _S6.x;
            }
            float down_0;
            if(_S10 == int(0))
            {
                down_0 = 1.0f - _S6.y;
            }
            else
            {
                down_0 = _S6.y;
            }
            float _S11;
            if(learned_0)
            {
                _S11 = share_0;
            }
            else
            {
                _S11 = share_0 * (across_0 * down_0);
            }
            if(learned_0)
            {
                _S4 = first_1 + which_0 * features_0;
            }
            else
            {
                _S4 = first_1;
            }
            int plane_2;
            if(!((ntGridWords((grid_3))) == int(1)))
            {
                plane_2 = int(0);
                while(plane_2 < (ntGridPlanes((grid_3))))
                {
                    float4 _S12 = ntFeaturesOf((ntFetchTexel((grid_3), (plane_2), (texel_3), (mip_1))), grid_3);
                    int _S13 = int(4) * plane_2;
                    int _S14 = min(int(4), features_0 - _S13);
                    int k_0 = int(0);
                    while(k_0 < _S14)
                    {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
                        inputs_0[_S4 + _S13 + k_0] = inputs_0[_S4 + _S13 + k_0] + NT_HALF(_S11 * _S12[k_0]);
//!! without
//!!! both
                        inputs_0[_S4 + _S13 + k_0] = inputs_0[_S4 + _S13 + k_0] + _S11 * _S12[k_0];
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
                        k_0 = k_0 + int(1);
                    }
                    plane_2 = plane_2 + int(1);
                }
            }
            else
            {
                uint2 _S15 = ntLoadWord(grid_3, texel_3, mip_1);
                plane_2 = int(0);
                while(plane_2 < features_0)
                {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
                    inputs_0[_S4 + plane_2] = inputs_0[_S4 + plane_2] + NT_HALF(_S11 * ntFeatureOf(_S15, plane_2, _S7));
//!! without
//!!! both
                    inputs_0[_S4 + plane_2] = inputs_0[_S4 + plane_2] + _S11 * ntFeatureOf(_S15, plane_2, _S7);
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
                    plane_2 = plane_2 + int(1);
                }
            }
            which_0 = which_0 + int(1);
        }
        if(learned_0)
        {
            _S4 = int(4) * features_0;
        }
        else
        {
            _S4 = features_0;
        }
        int first_2 = first_1 + _S4;
        grid_3 = grid_3 + int(1);
        first_1 = first_2;
    }
    int _S16 = NT_NUM_TEXEL_FREQUENCIES;
    if(_S16 > int(0))
    {
//! with rectangles
        float2 _S17 = uv_0 * float2(int2((ntGridSize((int(0))))) >> (ntMipOf(int(0), lod_1))) - 0.5f;
//! without
        float2 _S17 = uv_0 * float((ntGridResolution((int(0)))) >> (ntMipOf(int(0), lod_1))) - 0.5f;
//! both
        octave_1 = int(0);
        while(octave_1 < _S16)
        {
//!!! with whole numbers of 8 bits
            float2 x_1 = _S17 * ntHalved(octave_1);
//!!! without
            float2 x_1 = _S17 / float(1U << uint(octave_1));
//!!! both
            float2 wave_0 = 2.0f * (x_1 - floor(x_1)) - 1.0f;
            int _S18 = NT_FIRST_TEXEL_WAVE;
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
            inputs_0[_S18 + octave_1] = inputs_0[_S18 + octave_1] + NT_HALF(share_0 * wave_0.x);
            inputs_0[_S18 + _S16 + octave_1] = inputs_0[_S18 + _S16 + octave_1] + NT_HALF(share_0 * wave_0.y);
//!! without
//!!! both
            inputs_0[_S18 + octave_1] = inputs_0[_S18 + octave_1] + share_0 * wave_0.x;
            inputs_0[_S18 + _S16 + octave_1] = inputs_0[_S18 + _S16 + octave_1] + share_0 * wave_0.y;
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
            octave_1 = octave_1 + int(1);
        }
    }
    return;
}

//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
void ntDecoderInputs(out NT_HALF  inputs_1[NT_LAYER_WIDTH], float2 uv_1, int near_0, int far_0, float blend_0, float lod_2)
//!! without
//!!! both
void ntDecoderInputs(out float  inputs_1[NT_LAYER_WIDTH], float2 uv_1, int near_0, int far_0, float blend_0, float lod_2)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    float _S19;
    int _S20 = NT_FIRST_TEXEL_WAVE;
    int _S21 = _S20 + int(2) * NT_NUM_TEXEL_FREQUENCIES;
    int i_0 = int(0);
    while(i_0 < NT_LAYER_WIDTH)
    {
        bool one_0;
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
        inputs_1[i_0] = NT_HALF(_S19);
//!! without
//!!! both
        inputs_1[i_0] = _S19;
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
        i_0 = i_0 + int(1);
    }
    int _S22 = NT_NUM_FREQUENCIES;
    int octave_2 = int(0);
    while(octave_2 < _S22)
    {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        inputs_1[octave_2] = NT_HALF(ntTriangleWave(uv_1.x, octave_2));
        inputs_1[_S22 + octave_2] = NT_HALF(ntTriangleWave(uv_1.y, octave_2));
//!! without
//!!! both
        inputs_1[octave_2] = ntTriangleWave(uv_1.x, octave_2);
        inputs_1[_S22 + octave_2] = ntTriangleWave(uv_1.y, octave_2);
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
        octave_2 = octave_2 + int(1);
    }
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
    inputs_1[NT_NUM_REFERENCE_INPUTS - int(1)] = NT_HALF(lod_2 / float(max(NT_NUM_LODS - int(1), int(1))));
//!! without
//!!! both
    inputs_1[NT_NUM_REFERENCE_INPUTS - int(1)] = lod_2 / float(max(NT_NUM_LODS - int(1), int(1)));
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
    if(blend_0 > 0.0f)
    {
        i_0 = int(2);
    }
    else
    {
        i_0 = int(1);
    }
    int i_1 = int(0);
    while(i_1 < i_0)
    {
        bool _S23 = i_1 == int(0);
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
        ntAddFeatures(inputs_1, uv_1, octave_2, _S19);
        i_1 = i_1 + int(1);
    }
    return;
}

float4 ntSample(int grid_4, int plane_3, float2 uv_2, float mip_2, float2 axis_0, float ratio_0)
{
    if(ratio_0 < 0.5f)
    {
        return (ntSampleTexel((grid_4), (plane_3), (uv_2), (mip_2)));
    }
//! with rectangles
    float2 resolution_2 = (ntGridSize((grid_4)));
//! without
    float resolution_2 = float((ntGridResolution((grid_4))));
//! both
    float narrow_0 = (exp2((mip_2)));
//! with rectangles
    float2 longer_0 = axis_0 * resolution_2;
    float size_0 = length(longer_0);
//! without
    float size_0 = length(axis_0);
//! both
    float2 direction_0;
    if(size_0 > 0.0f)
    {
//! with rectangles
        direction_0 = longer_0 / size_0;
//! without
        direction_0 = axis_0 / size_0;
//! both
    }
    else
    {
        direction_0 = float2(1.0f, 0.0f);
    }
//! with rectangles
    return (ntSampleTexelGrad((grid_4), (plane_3), (uv_2), (direction_0 * clamp(size_0, narrow_0, narrow_0 * ratio_0) / resolution_2), (float2(- direction_0.y, direction_0.x) * narrow_0 / resolution_2)));
//! without
    return (ntSampleTexelGrad((grid_4), (plane_3), (uv_2), (direction_0 * (clamp(size_0 * resolution_2, narrow_0, narrow_0 * ratio_0) / resolution_2)), (float2(- direction_0.y, direction_0.x) * (narrow_0 / resolution_2))));
//! both
}

//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
void ntAddSampledFeatures(inout NT_HALF  inputs_2[NT_LAYER_WIDTH], float2 uv_3, float lod_3, float2 axis_1, float ratio_1)
//!! without
//!!! both
void ntAddSampledFeatures(inout float  inputs_2[NT_LAYER_WIDTH], float2 uv_3, float lod_3, float2 axis_1, float ratio_1)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    int k_1;
    int _S24 = int(2) * NT_NUM_FREQUENCIES;
    int grid_5 = int(0);
    int first_3 = _S24;
    while(grid_5 < NT_NUM_GRIDS)
    {
        bool learned_1 = (ntGridLearned((grid_5))) == int(1);
        int features_1 = (ntGridFeatures((grid_5)));
        float _S25 = min(max(lod_3 - float((ntGridSharedLods((grid_5)))), 0.0f), float((ntGridMips((grid_5))) - int(1)));
        bool _S26;
        if(learned_1)
        {
            _S26 = true;
        }
        else
        {
            _S26 = (ntGridWords((grid_5))) == int(1);
        }
        int _S27;
        if(_S26)
        {
            _S27 = int(0);
        }
        else
        {
            _S27 = (ntGridPlanes((grid_5)));
        }
        int plane_4 = int(0);
        while(plane_4 < _S27)
        {
            float4 _S28 = ntFeaturesOf(ntSample(grid_5, plane_4, uv_3, _S25, axis_1, ratio_1), grid_5);
            int _S29 = int(4) * plane_4;
            int _S30 = min(int(4), features_1 - _S29);
            k_1 = int(0);
            while(k_1 < _S30)
            {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
                inputs_2[first_3 + _S29 + k_1] = inputs_2[first_3 + _S29 + k_1] + NT_HALF(_S28[k_1]);
//!! without
//!!! both
                inputs_2[first_3 + _S29 + k_1] = inputs_2[first_3 + _S29 + k_1] + _S28[k_1];
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
                k_1 = k_1 + int(1);
            }
            plane_4 = plane_4 + int(1);
        }
        if(learned_1)
        {
            k_1 = int(4) * features_1;
        }
        else
        {
            k_1 = features_1;
        }
        int first_4 = first_3 + k_1;
        grid_5 = grid_5 + int(1);
        first_3 = first_4;
    }
    return;
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
//!!! both
}

//!!! with whole numbers of 8 bits
uint4 ntInputBytes(float4 inputs_3)
//!!! without
NT_HALF4 ntBlock(int column_0, NT_HALF4 inputs_3)
//!!! both
{
//!!! with whole numbers of 8 bits
    return uint4((int4(floor(inputs_3 * 16384.0f + 0.5f)) * int(255) + int(4194304)) >> int(15));
//!!! without
    return (ntWeights((column_0))) * inputs_3.x + (ntWeights((column_0 + int(1)))) * inputs_3.y + (ntWeights((column_0 + int(2)))) * inputs_3.z + (ntWeights((column_0 + int(3)))) * inputs_3.w;
//!! without
//!! both
//!!! both
}

//!!! with whole numbers of 8 bits
uint ntPack(uint4 inputs_4)
//!!! without
float ntActivate(float x_2)
//!!! both
{
//!!! with whole numbers of 8 bits
    return ((((inputs_4.x) | ((inputs_4.y) << 8U)) | ((inputs_4.z) << 16U)) | ((inputs_4.w) << 24U)) ^ 2155905152U;
//!!! without
    if(NT_HARD_SWISH == int(1))
    {
        return x_2 * clamp(x_2 + 3.0f, 0.0f, 6.0f) / 6.0f;
    }
    float _S31;
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
void ntNetwork(inout float  values_0[NT_LAYER_WIDTH], out float  found_0[int(16)])
//!!! without
//!! with products of 16 bits
void ntNetwork(inout NT_HALF  values_0[NT_LAYER_WIDTH], out float  found_0[int(16)])
//!! without
void ntNetwork(inout float  values_0[NT_LAYER_WIDTH])
//!! both
//!!! both
{
//!!! with whole numbers of 8 bits
    uint  words_0[NT_LAYER_WORDS];
    int _S31 = NT_NUM_INPUTS / int(4);
    int i_2 = int(0);
    while(i_2 < _S31)
    {
        int _S32 = int(4) * i_2;
        words_0[i_2] = ntPack(ntInputBytes(float4(values_0[_S32], values_0[_S32 + int(1)], values_0[_S32 + int(2)], values_0[_S32 + int(3)])));
        i_2 = i_2 + int(1);
    }
//!!! without
//!! with products of 16 bits
    int first_5;
    int _S32 = NT_GROUP_INPUTS;
//!!! both
    int _S33 = NT_NUM_HIDDEN_LAYERS + int(1);
//!!! with whole numbers of 8 bits
    int count_0 = _S31;
//!!! without
//!! without
    int i_2;
    int _S32 = NT_NUM_HIDDEN_LAYERS + int(1);
//!! both
    int inputCount_0 = NT_NUM_INPUTS;
//!!! both
    int layer_0 = int(0);
//!!! with whole numbers of 8 bits
    int at_0 = int(0);
//!!! without
//!! with products of 16 bits
    int column_1 = int(0);
//!!! both
    while(layer_0 < _S33)
//!!! with whole numbers of 8 bits
//!!! without
//!! without
    int column_0 = int(0);
    while(layer_0 < _S32)
//!! both
//!!! both
    {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
//!!! both
        bool last_0 = layer_0 == (_S33 - int(1));
//!!! with whole numbers of 8 bits
        int4 _S34 = int4(int(0), int(0), int(0), int(0));
        bool _S35 = !last_0;
        int at_1;
        int4 shifts_0;
        int4 constants_0;
        if(_S35)
//!!! without
//!! without
        bool last_0 = layer_0 == (_S32 - int(1));
//!! both
        int outputCount_0;
        if(last_0)
//!!! both
        {
//!!! with whole numbers of 8 bits
            int4 _S36 = int4((ntWeights((at_0 + int(1)))));
            int at_2 = at_0 + int(2);
            shifts_0 = int4((ntWeights((at_0))));
            constants_0 = _S36;
            at_1 = at_2;
//!!! without
            outputCount_0 = int(16);
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            shifts_0 = _S34;
            constants_0 = _S34;
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
            outputWords_0 = int(4);
        }
        else
        {
            outputWords_0 = NT_NUM_NEURONS / int(4);
        }
//!!! without
//!! with products of 16 bits
        NT_HALF  outputs_0[NT_LAYER_WIDTH];
//!! without
        float  outputs_0[NT_LAYER_WIDTH];
//!! both
//!!! both
        int row_0 = int(0);
//!!! with whole numbers of 8 bits
        at_0 = at_1;
        while(row_0 < outputWords_0)
//!!! without
        while(row_0 < outputCount_0)
//!!! both
        {
//!!! with whole numbers of 8 bits
            uint4 factors_0 = (ntWeights((at_0 + int(1))));
            int at_3 = at_0 + int(2);
            int4 sums_0 = int4((ntWeights((at_0))));
//!!! without
//!! with products of 16 bits
            float4 _S34 = float4(0.0f, 0.0f, 0.0f, 0.0f);
            first_5 = int(0);
            float4 sum_0 = _S34;
            while(first_5 < inputCount_0)
//!! without
            float4 _S33 = float4(0.0f, 0.0f, 0.0f, 0.0f);
//!!! both
            i_2 = int(0);
//!!! with whole numbers of 8 bits
            while(i_2 < count_0)
//!!! without
            float4 sum_0 = _S33;
            while(i_2 < inputCount_0)
//!! both
//!!! both
            {
//!!! with whole numbers of 8 bits
                int4 _S37 = (ntDots(((ntWeights((at_3 + i_2)))), (words_0[i_2]), (sums_0)));
                int _S38 = i_2 + int(1);
                sums_0 = _S37;
                i_2 = _S38;
//!!! without
//!! with products of 16 bits
                NT_HALF4 _S35 = ntBlock(column_1 + first_5, NT_HALF4(values_0[first_5], values_0[first_5 + int(1)], values_0[first_5 + int(2)], values_0[first_5 + int(3)]));
                int next_0 = int(4);
                NT_HALF4 part_0 = _S35;
                while(next_0 < _S32)
                {
                    int i_2 = first_5 + next_0;
                    NT_HALF4 part_1 = part_0 + ntBlock(column_1 + i_2, NT_HALF4(values_0[i_2], values_0[i_2 + int(1)], values_0[i_2 + int(2)], values_0[i_2 + int(3)]));
                    next_0 = next_0 + int(4);
                    part_0 = part_1;
                }
                float4 sum_1 = sum_0 + float4(part_0);
                first_5 = first_5 + _S32;
//!! without
                float4 sum_1 = sum_0 + (ntWeights((column_0 + i_2))) * values_0[i_2];
                i_2 = i_2 + int(1);
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
            float4 sum_2 = sum_0 * (ntWeightScales(((layer_0 * NT_NUM_NEURONS + row_0) / int(4))));
//!! with products of 16 bits
//!! without
            float4 sum_3;
//!! both
//! without
//!! with products of 16 bits
//!! without
            float4 sum_2;
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
                float4 outputs_0 = float4(sums_0) * asfloat(factors_0);
                int _S39 = int(4) * row_0;
                found_0[_S39] = outputs_0.x;
                found_0[_S39 + int(1)] = outputs_0.y;
                found_0[_S39 + int(2)] = outputs_0.z;
                found_0[_S39 + int(3)] = outputs_0.w;
//!!! without
//! with scales of rows
//!! with products of 16 bits
                found_0[row_0] = sum_2.x;
                found_0[row_0 + int(1)] = sum_2.y;
                found_0[row_0 + int(2)] = sum_2.z;
                found_0[row_0 + int(3)] = sum_2.w;
//!! without
                sum_3 = float4(ntActivate(sum_2.x), ntActivate(sum_2.y), ntActivate(sum_2.z), ntActivate(sum_2.w));
//!! both
//! without
//!! with products of 16 bits
                found_0[row_0] = sum_0.x;
                found_0[row_0 + int(1)] = sum_0.y;
                found_0[row_0 + int(2)] = sum_0.z;
                found_0[row_0 + int(3)] = sum_0.w;
//!! without
                sum_2 = float4(ntActivate(sum_0.x), ntActivate(sum_0.y), ntActivate(sum_0.z), ntActivate(sum_0.w));
//!! both
//! both
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                int4 p_0 = ((sums_0 >> (shifts_0.x)) * int4(factors_0) + shifts_0.w) >> (shifts_0.y);
                int4 y_0;
                if(NT_HARD_SWISH == int(1))
                {
                    int _S40 = constants_0.y;
                    y_0 = min(p_0, (int4)constants_0.x) * clamp(p_0 + _S40, (int4)int(0), (int4)(int(2) * _S40));
                }
                else
                {
                    int4 _S41 = (int4)int(0);
                    y_0 = max(p_0, _S41) + ((clamp(p_0, (int4)- constants_0.x, _S41) * constants_0.z) >> int(15));
                }
                next_0[row_0] = ntPack(uint4(clamp((y_0 + constants_0.w) >> (shifts_0.z), (int4)int(0), (int4)int(255))));
//!!! without
//! with scales of rows
//!! with products of 16 bits
                outputs_0[row_0] = NT_HALF(ntActivate(sum_2.x));
                outputs_0[row_0 + int(1)] = NT_HALF(ntActivate(sum_2.y));
                outputs_0[row_0 + int(2)] = NT_HALF(ntActivate(sum_2.z));
                outputs_0[row_0 + int(3)] = NT_HALF(ntActivate(sum_2.w));
//!! without
                sum_3 = sum_2;
//!! both
//! without
//!! with products of 16 bits
                outputs_0[row_0] = NT_HALF(ntActivate(sum_0.x));
                outputs_0[row_0 + int(1)] = NT_HALF(ntActivate(sum_0.y));
                outputs_0[row_0 + int(2)] = NT_HALF(ntActivate(sum_0.z));
                outputs_0[row_0 + int(3)] = NT_HALF(ntActivate(sum_0.w));
//!! without
                sum_2 = sum_0;
//!! both
//! both
//!!! both
            }
//!!! with whole numbers of 8 bits
            row_0 = row_0 + int(1);
            at_0 = at_4;
//!!! without
//!! with products of 16 bits
//!! without
//! with scales of rows
            outputs_0[row_0] = sum_3.x;
            outputs_0[row_0 + int(1)] = sum_3.y;
            outputs_0[row_0 + int(2)] = sum_3.z;
            outputs_0[row_0 + int(3)] = sum_3.w;
//! without
            outputs_0[row_0] = sum_2.x;
            outputs_0[row_0 + int(1)] = sum_2.y;
            outputs_0[row_0 + int(2)] = sum_2.z;
            outputs_0[row_0 + int(3)] = sum_2.w;
//! both
//!! both
            row_0 = row_0 + int(4);
//!! with products of 16 bits
            column_1 = column_2;
//!! without
            column_0 = column_1;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        if(_S35)
//!!! without
//!! with products of 16 bits
        if(!last_0)
//!! without
        i_2 = int(0);
        while(i_2 < outputCount_0)
//!! both
//!!! both
        {
//!!! with whole numbers of 8 bits
            int k_2 = int(0);
            while(k_2 < outputWords_0)
//!!! without
//!! with products of 16 bits
            first_5 = int(0);
            while(first_5 < outputCount_0)
//!!! both
            {
//!!! with whole numbers of 8 bits
                words_0[k_2] = next_0[k_2];
                k_2 = k_2 + int(1);
//!!! without
                values_0[first_5] = outputs_0[first_5];
                first_5 = first_5 + int(1);
//!!! both
            }
//!!! with whole numbers of 8 bits
//!!! without
//!! without
            values_0[i_2] = outputs_0[i_2];
            i_2 = i_2 + int(1);
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        int _S42 = layer_0 + int(1);
        count_0 = outputWords_0;
        layer_0 = _S42;
//!!! without
//!! with products of 16 bits
        int _S36 = layer_0 + int(1);
//!! without
        int _S34 = layer_0 + int(1);
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
    float3 diffuse;
    float3 normal;
    float roughness;
    float occlusion;
    float metallic;
    float specular;
    float displacement;
//! with extra maps
    float opacity;
    float3 emissive;
    float extra;
//! without
//! both
};

NtMaterial ntDecodeFootprint(float2 uv_4, float lod_4, float2 axis_2, float ratio_2)
{
//!!! with whole numbers of 8 bits
    int _S43 = NT_NUM_LODS - int(1);
    float level_0 = clamp(lod_4, 0.0f, float(_S43));
    float2 _S44 = uv_4 - floor(uv_4);
//!!! without
//!! with products of 16 bits
    int _S37 = NT_NUM_LODS - int(1);
    float level_0 = clamp(lod_4, 0.0f, float(_S37));
    float2 _S38 = uv_4 - floor(uv_4);
//!! without
    int _S35 = NT_NUM_LODS - int(1);
    float level_0 = clamp(lod_4, 0.0f, float(_S35));
    float2 _S36 = uv_4 - floor(uv_4);
//!! both
//!!! both
    int near_1 = int(level_0);
//!!! with whole numbers of 8 bits
    int _S45 = min(near_1 + int(1), _S43);
//!!! without
//!! with products of 16 bits
    int _S39 = min(near_1 + int(1), _S37);
//!! without
    int _S37 = min(near_1 + int(1), _S35);
//!! both
//!!! both
    float blend_1 = level_0 - float(near_1);
    bool twice_0 = NT_BLEND_OUTPUTS == int(1);
//!!! with whole numbers of 8 bits
    bool _S46;
//!!! without
//!! with products of 16 bits
    bool _S40;
//!! without
    bool _S38;
//!! both
//!!! both
    if(twice_0)
    {
//!!! with whole numbers of 8 bits
        _S46 = blend_1 > 0.0f;
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
        _S46 = false;
//!!! without
//!! with products of 16 bits
        _S40 = false;
//!! without
        _S38 = false;
//!! both
//!!! both
    }
    int channel_0;
//!!! with whole numbers of 8 bits
    if(_S46)
//!!! without
//!! with products of 16 bits
    if(_S40)
//!! without
    if(_S38)
//!! both
//!!! both
    {
        channel_0 = int(2);
    }
    else
    {
        channel_0 = int(1);
    }
    float  decoded_0[int(16)];
    int pass_0 = int(0);
    while(pass_0 < channel_0)
    {
//!!! with whole numbers of 8 bits
        bool _S47 = pass_0 == int(0);
//!!! without
//!! with products of 16 bits
        bool _S41 = pass_0 == int(0);
//!! without
        bool _S39 = pass_0 == int(0);
//!! both
//!!! both
        int lower_0;
//!!! with whole numbers of 8 bits
        if(_S47)
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
            lower_0 = _S45;
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
        NT_HALF  values_1[NT_LAYER_WIDTH];
        float _S42;
//!! without
//!!! both
        float  values_1[NT_LAYER_WIDTH];
//!!! with whole numbers of 8 bits
        float _S48;
//!!! without
        float _S40;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S48 = 0.0f;
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
            _S48 = blend_1;
//!!! without
//!! with products of 16 bits
            _S42 = blend_1;
//!! without
            _S40 = blend_1;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        float _S49;
//!!! without
//!! with products of 16 bits
        float _S43;
//!! without
        float _S41;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S49 = float(lower_0);
//!!! without
//!! with products of 16 bits
            _S43 = float(lower_0);
//!! without
            _S41 = float(lower_0);
//!! both
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S49 = level_0;
//!!! without
//!! with products of 16 bits
            _S43 = level_0;
//!! without
            _S41 = level_0;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        ntDecoderInputs(values_1, _S44, lower_0, _S45, _S48, _S49);
        float _S50;
//!!! without
//!! with products of 16 bits
        ntDecoderInputs(values_1, _S38, lower_0, _S39, _S42, _S43);
        float _S44;
//!! without
        ntDecoderInputs(values_1, _S36, lower_0, _S37, _S40, _S41);
        float _S42;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S50 = float(lower_0);
//!!! without
//!! with products of 16 bits
            _S44 = float(lower_0);
//!! without
            _S42 = float(lower_0);
//!! both
//!!! both
        }
        else
        {
//!!! with whole numbers of 8 bits
            _S50 = level_0;
//!!! without
//!! with products of 16 bits
            _S44 = level_0;
//!! without
            _S42 = level_0;
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        ntAddSampledFeatures(values_1, _S44, _S50, axis_2, ratio_2);
//!!! without
//!! with products of 16 bits
        ntAddSampledFeatures(values_1, _S38, _S44, axis_2, ratio_2);
//!!! both
        float  found_1[int(16)];
        ntNetwork(values_1, found_1);
//!!! with whole numbers of 8 bits
//!!! without
//!! without
        ntAddSampledFeatures(values_1, _S36, _S42, axis_2, ratio_2);
        ntNetwork(values_1);
//!! both
//!!! both
        int i_3 = int(0);
        while(i_3 < int(16))
        {
//!!! with whole numbers of 8 bits
            float _S51;
            if(_S47)
//!!! without
//!! with products of 16 bits
            float _S45;
            if(_S41)
//!! without
            float _S43;
            if(_S39)
//!! both
//!!! both
            {
//!!! with whole numbers of 8 bits
                _S51 = found_1[i_3];
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
                _S51 = decoded_0[i_3] + blend_1 * (found_1[i_3] - decoded_0[i_3]);
//!!! without
//!! with products of 16 bits
                _S45 = decoded_0[i_3] + blend_1 * (found_1[i_3] - decoded_0[i_3]);
//!! without
                _S43 = decoded_0[i_3] + blend_1 * (values_1[i_3] - decoded_0[i_3]);
//!! both
//!!! both
            }
//!!! with whole numbers of 8 bits
            decoded_0[i_3] = _S51;
//!!! without
//!! with products of 16 bits
            decoded_0[i_3] = _S45;
//!! without
            decoded_0[i_3] = _S43;
//!! both
//!!! both
            i_3 = i_3 + int(1);
        }
        pass_0 = pass_0 + int(1);
    }
    channel_0 = int(0);
//! with extra maps
    while(channel_0 < int(16))
//! without
    while(channel_0 < int(11))
//! both
    {
        if((ntIsConstant((channel_0))) == int(1))
        {
            decoded_0[channel_0] = (ntConstantValue((channel_0)));
        }
        channel_0 = channel_0 + int(1);
    }
    NtMaterial material_0;
    material_0.diffuse = float3(decoded_0[int(0)], decoded_0[int(1)], decoded_0[int(2)]);
    material_0.normal = float3(decoded_0[int(3)], decoded_0[int(4)], decoded_0[int(5)]);
    material_0.roughness = decoded_0[int(6)];
    material_0.occlusion = decoded_0[int(7)];
    material_0.metallic = decoded_0[int(8)];
    material_0.specular = decoded_0[int(9)];
    material_0.displacement = decoded_0[int(10)];
//! with extra maps
    material_0.opacity = decoded_0[int(11)];
    material_0.emissive = float3(decoded_0[int(12)], decoded_0[int(13)], decoded_0[int(14)]);
    material_0.extra = decoded_0[int(15)];
//! without
//! both
    return material_0;
}

NtMaterial ntDecode(float2 uv_5, float lod_5)
{
    return ntDecodeFootprint(uv_5, lod_5, float2(0.0f, 0.0f), 0.0f);
}

float3 ntUnitNormal(NtMaterial material_1)
{
    float3 vector_0 = material_1.normal * 2.0f - 1.0f;
    float size_1 = length(vector_0);
    bool _S44;
    if(NT_HAS_NORMAL == int(1))
    {
        _S44 = size_1 > 9.99999997475242708e-07f;
    }
    else
    {
        _S44 = false;
    }
    float3 _S45;
    if(_S44)
    {
        _S45 = vector_0 / size_1;
    }
    else
    {
        _S45 = float3(0.0f, 0.0f, 1.0f);
    }
    return _S45;
}

float3 ntSrgbToLinear(float3 color_0)
{
    float3 c_0 = clamp(color_0, float3(0.0f, 0.0f, 0.0f), float3(1.0f, 1.0f, 1.0f));
    float3 low_0 = c_0 / 12.92000007629394531f;
    float3 high_0 = pow((c_0 + 0.05499999970197678f) / 1.0549999475479126f, float3(2.40000009536743164f, 2.40000009536743164f, 2.40000009536743164f));
    float _S46;
    if((c_0.x) <= 0.04044999927282333f)
    {
        _S46 = low_0.x;
    }
    else
    {
        _S46 = high_0.x;
    }
    float _S47;
    if((c_0.y) <= 0.04044999927282333f)
    {
        _S47 = low_0.y;
    }
    else
    {
        _S47 = high_0.y;
    }
    float _S48;
    if((c_0.z) <= 0.04044999927282333f)
    {
        _S48 = low_0.z;
    }
    else
    {
        _S48 = high_0.z;
    }
    return float3(_S46, _S47, _S48);
}

float3 ntLinearDiffuse(NtMaterial material_2)
{
    float3 _S49;
    if(NT_DIFFUSE_IS_SRGB == int(1))
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

float ntLod(float2 across_1, float2 down_1)
{
    float2 size_2 = float2(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT);
    float2 a_0 = across_1 * size_2;
    float2 b_0 = down_1 * size_2;
    return 0.5f * log2(max(max(dot(a_0, a_0), dot(b_0, b_0)), 9.999999960041972e-13f));
}

float4 ntFootprint(float2 across_2, float2 down_2, float anisotropy_0)
{
    float2 size_3 = float2(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT);
    float _S50 = max(length(across_2 * size_3), 9.99999997475242708e-07f);
    float _S51 = max(length(down_2 * size_3), 9.99999997475242708e-07f);
    float _S52 = max(_S50, _S51);
    float _S53 = max(min(_S50, _S51), _S52 / max(anisotropy_0, 1.0f));
    float2 axis_3;
    if(_S50 < _S51)
    {
        axis_3 = down_2;
    }
    else
    {
        axis_3 = across_2;
    }
    return float4(axis_3.x, axis_3.y, _S52 / _S53, log2(_S53));
}

NtMaterial ntDecodeGrad(float2 uv_6, float2 across_3, float2 down_3, float anisotropy_1)
{
    float4 footprint_0 = ntFootprint(across_3, down_3, anisotropy_1);
    return ntDecodeFootprint(uv_6, footprint_0.w, float2(footprint_0.x, footprint_0.y), footprint_0.z);
}

float2 ntTexelCentre(float2 uv_7, float lod_6, float2 random_0)
{
    int level_1 = int(clamp(lod_6, 0.0f, float(NT_NUM_LODS - int(1))) + 0.5f);
    float2 size_4 = float2(float(max(int(NT_MATERIAL_WIDTH) >> level_1, int(1))), float(max(int(NT_MATERIAL_HEIGHT) >> level_1, int(1))));
    return (floor(uv_7 * size_4 - 0.5f + random_0) + 0.5f) / size_4;
}
