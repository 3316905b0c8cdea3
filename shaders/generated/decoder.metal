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

uint2 ntLoadWord(int grid_1, int2 texel_1, int mip_0)
{
    thread uint2 word_0 = uint2(0U, 0U);
    int plane_0 = int(0);
    while(plane_0 < (ntGridPlanes((grid_1))))
    {
        uint4 _S2 = uint4((ntFetchTexel((grid_1), (plane_0), (texel_1), (mip_0))) * float4(255.0f)  + float4(0.5f) );
        uint packed_0 = ((((_S2.x) << 24U) | ((_S2.y) << 16U)) | ((_S2.z) << 8U)) | (_S2.w);
        if(plane_0 == int(0))
        {
            word_0.x = packed_0;
        }
        else
        {
            word_0.y = packed_0;
        }
        plane_0 = plane_0 + int(1);
    }
    return word_0;
}

//!!! with whole numbers of 8 bits
float ntHalved(int times_0)
{
    return (as_type<float>((uint(int(127) - times_0) << 23U)));
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
void ntAddFeatures(array<half, NT_LAYER_WIDTH> thread* inputs_0, float2 uv_0, int lod_1, float share_0)
//!! without
//!!! both
void ntAddFeatures(array<float, NT_LAYER_WIDTH> thread* inputs_0, float2 uv_0, int lod_1, float share_0)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    int which_0;
    int _S4;
    int _S5 = int(2) * NT_NUM_FREQUENCIES;
    int grid_2 = int(0);
    int first_1 = _S5;
    while(grid_2 < NT_NUM_GRIDS)
    {
        int mip_1 = ntMipOf(grid_2, lod_1);
//! with rectangles
        int2 resolution_1 = int2((ntGridSize((grid_2)))) >> (uint2(uint(mip_1)) );
//!!! with whole numbers of 8 bits
//!!! without
        float2 position_0 = uv_0 * float2(resolution_1) - float2(0.5f) ;
//!!! both
//! without
        int resolution_1 = (ntGridResolution((grid_2))) >> uint(mip_1);
//!!! with whole numbers of 8 bits
//! both
        float2 _S6 = float2(0.5f) ;
//! with rectangles
        float2 position_0 = uv_0 * float2(resolution_1) - _S6;
//! without
        float2 position_0 = uv_0 * float2(float(resolution_1))  - _S6;
//!!! without
        float2 position_0 = uv_0 * float2(float(resolution_1))  - float2(0.5f) ;
//!!! both
//! both
        float2 corner_0 = floor(position_0);
//!!! with whole numbers of 8 bits
        float2 _S7 = floor((position_0 - corner_0) * float2(256.0f)  + _S6) * float2(0.00390625f) ;
//!!! without
        float2 _S6 = position_0 - corner_0;
//!!! both
        int features_0 = (ntGridFeatures((grid_2)));
//!!! with whole numbers of 8 bits
        int _S8 = (ntGridBits((grid_2)));
//!!! without
        int _S7 = (ntGridBits((grid_2)));
//!!! both
        bool learned_0 = (ntGridLearned((grid_2))) == int(1);
        which_0 = int(0);
        while(which_0 < int(4))
        {
//!!! with whole numbers of 8 bits
            int _S9 = which_0 & int(1);
            int _S10 = which_0 >> 1U;
            int2 texel_2 = int2(corner_0) + int2(_S9, _S10);
//!!! without
            int _S8 = which_0 & int(1);
            int _S9 = which_0 >> 1U;
            int2 texel_2 = int2(corner_0) + int2(_S8, _S9);
//!!! both
//! with rectangles
            int2 texel_3 = int2(ntWrap(texel_2.x, resolution_1.x), ntWrap(texel_2.y, resolution_1.y));
//! without
            int2 texel_3 = int2(ntWrap(texel_2.x, resolution_1), ntWrap(texel_2.y, resolution_1));
//! both
            float across_0;
//!!! with whole numbers of 8 bits
            if(_S9 == int(0))
//!!! without
            if(_S8 == int(0))
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
            float down_0;
//!!! with whole numbers of 8 bits
            if(_S10 == int(0))
//!!! without
            if(_S9 == int(0))
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
            float _S11;
//!!! without
            float _S10;
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
            uint2 _S12 = ntLoadWord(grid_2, texel_3, mip_1);
//!!! without
            uint2 _S11 = ntLoadWord(grid_2, texel_3, mip_1);
//!!! both
            int feature_0 = int(0);
            while(feature_0 < features_0)
            {
//!!! with whole numbers of 8 bits
                (*inputs_0)[_S4 + feature_0] = (*inputs_0)[_S4 + feature_0] + _S11 * ntFeatureOf(_S12, feature_0, _S8);
//!!! without
//!! with products of 16 bits
                (*inputs_0)[_S4 + feature_0] = (*inputs_0)[_S4 + feature_0] + half(_S10 * ntFeatureOf(_S11, feature_0, _S7));
//!! without
                (*inputs_0)[_S4 + feature_0] = (*inputs_0)[_S4 + feature_0] + _S10 * ntFeatureOf(_S11, feature_0, _S7);
//!! both
//!!! both
                feature_0 = feature_0 + int(1);
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
        grid_2 = grid_2 + int(1);
        first_1 = first_2;
    }
//!!! with whole numbers of 8 bits
    int _S13 = NT_NUM_TEXEL_FREQUENCIES;
    if(_S13 > int(0))
//!!! without
    int _S12 = NT_NUM_TEXEL_FREQUENCIES;
    if(_S12 > int(0))
//!!! both
    {
//! with rectangles
//!!! with whole numbers of 8 bits
        float2 _S14 = uv_0 * float2(int2((ntGridSize((int(0))))) >> (uint2(uint(ntMipOf(int(0), lod_1))) )) - float2(0.5f) ;
//!!! without
        float2 _S13 = uv_0 * float2(int2((ntGridSize((int(0))))) >> (uint2(uint(ntMipOf(int(0), lod_1))) )) - float2(0.5f) ;
//!!! both
//! without
//!!! with whole numbers of 8 bits
        float2 _S14 = uv_0 * float2(float((ntGridResolution((int(0)))) >> uint(ntMipOf(int(0), lod_1))))  - float2(0.5f) ;
//!!! without
        float2 _S13 = uv_0 * float2(float((ntGridResolution((int(0)))) >> uint(ntMipOf(int(0), lod_1))))  - float2(0.5f) ;
//!!! both
//! both
        which_0 = int(0);
//!!! with whole numbers of 8 bits
        while(which_0 < _S13)
//!!! without
        while(which_0 < _S12)
//!!! both
        {
//!!! with whole numbers of 8 bits
            float2 x_1 = _S14 * float2(ntHalved(which_0)) ;
//!!! without
            float2 x_1 = _S13 / float2(float(1U << uint(which_0))) ;
//!!! both
            float2 wave_0 = float2(2.0f)  * (x_1 - floor(x_1)) - float2(1.0f) ;
//!!! with whole numbers of 8 bits
            int _S15 = NT_FIRST_TEXEL_WAVE;
            (*inputs_0)[_S15 + which_0] = (*inputs_0)[_S15 + which_0] + share_0 * wave_0.x;
            (*inputs_0)[_S15 + _S13 + which_0] = (*inputs_0)[_S15 + _S13 + which_0] + share_0 * wave_0.y;
//!!! without
            int _S14 = NT_FIRST_TEXEL_WAVE;
//!! with products of 16 bits
            (*inputs_0)[_S14 + which_0] = (*inputs_0)[_S14 + which_0] + half(share_0 * wave_0.x);
            (*inputs_0)[_S14 + _S12 + which_0] = (*inputs_0)[_S14 + _S12 + which_0] + half(share_0 * wave_0.y);
//!! without
            (*inputs_0)[_S14 + which_0] = (*inputs_0)[_S14 + which_0] + share_0 * wave_0.x;
            (*inputs_0)[_S14 + _S12 + which_0] = (*inputs_0)[_S14 + _S12 + which_0] + share_0 * wave_0.y;
//!! both
//!!! both
            which_0 = which_0 + int(1);
        }
    }
    return;
}

//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
void ntDecoderInputs(array<half, NT_LAYER_WIDTH> thread* inputs_1, float2 uv_1, int near_0, int far_0, float blend_0, float lod_2)
//!! without
//!!! both
void ntDecoderInputs(array<float, NT_LAYER_WIDTH> thread* inputs_1, float2 uv_1, int near_0, int far_0, float blend_0, float lod_2)
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
{
    float _S15;
    int _S16 = NT_FIRST_TEXEL_WAVE;
    int _S17 = _S16 + int(2) * NT_NUM_TEXEL_FREQUENCIES;
    int i_0 = int(0);
    while(i_0 < NT_LAYER_WIDTH)
    {
        bool one_0;
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
        (*inputs_1)[i_0] = half(_S15);
//!! without
//!!! both
        (*inputs_1)[i_0] = _S15;
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
        i_0 = i_0 + int(1);
    }
    int _S18 = NT_NUM_FREQUENCIES;
    int octave_1 = int(0);
    while(octave_1 < _S18)
    {
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
        (*inputs_1)[octave_1] = half(ntTriangleWave(uv_1.x, octave_1));
        (*inputs_1)[_S18 + octave_1] = half(ntTriangleWave(uv_1.y, octave_1));
//!! without
//!!! both
        (*inputs_1)[octave_1] = ntTriangleWave(uv_1.x, octave_1);
        (*inputs_1)[_S18 + octave_1] = ntTriangleWave(uv_1.y, octave_1);
//!!! with whole numbers of 8 bits
//!!! without
//!! both
//!!! both
        octave_1 = octave_1 + int(1);
    }
//!!! with whole numbers of 8 bits
//!!! without
//!! with products of 16 bits
    (*inputs_1)[NT_NUM_REFERENCE_INPUTS - int(1)] = half(lod_2 / float(max(NT_NUM_LODS - int(1), int(1))));
//!! without
//!!! both
    (*inputs_1)[NT_NUM_REFERENCE_INPUTS - int(1)] = lod_2 / float(max(NT_NUM_LODS - int(1), int(1)));
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
        bool _S19 = i_1 == int(0);
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
        ntAddFeatures(inputs_1, uv_1, octave_1, _S15);
        i_1 = i_1 + int(1);
    }
    return;
}

//!!! with whole numbers of 8 bits
uint4 ntInputBytes(float4 inputs_2)
//!!! without
//!! with products of 16 bits
half4 ntBlock(int column_0, half4 inputs_2)
//!!! both
{
//!!! with whole numbers of 8 bits
    return uint4((int4(floor(inputs_2 * float4(16384.0f)  + float4(0.5f) )) * int4(int(255))  + int4(int(4194304)) ) >> (uint4(15U) ));
//!!! without
    return (ntWeights((column_0))) * half4(inputs_2.x)  + (ntWeights((column_0 + int(1)))) * half4(inputs_2.y)  + (ntWeights((column_0 + int(2)))) * half4(inputs_2.z)  + (ntWeights((column_0 + int(3)))) * half4(inputs_2.w) ;
//!!! both
}

//!!! with whole numbers of 8 bits
uint ntPack(uint4 inputs_3)
//!!! without
//!! without
//!! both
float ntActivate(float x_2)
//!!! both
{
//!!! with whole numbers of 8 bits
    return ((((inputs_3.x) | ((inputs_3.y) << 8U)) | ((inputs_3.z) << 16U)) | ((inputs_3.w) << 24U)) ^ 2155905152U;
//!!! without
    if(NT_HARD_SWISH == int(1))
    {
        return x_2 * clamp(x_2 + 3.0f, 0.0f, 6.0f) / 6.0f;
    }
    float _S20;
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
void ntNetwork(array<float, NT_LAYER_WIDTH> thread* values_0, array<float, int(16)> thread* found_0)
//!!! without
//!! with products of 16 bits
void ntNetwork(array<half, NT_LAYER_WIDTH> thread* values_0, array<float, int(16)> thread* found_0)
//!! without
void ntNetwork(array<float, NT_LAYER_WIDTH> thread* values_0)
//!! both
//!!! both
{
//!!! with whole numbers of 8 bits
    thread array<uint, NT_LAYER_WORDS> words_0;
    int _S21 = NT_NUM_INPUTS / int(4);
    int i_2 = int(0);
    while(i_2 < _S21)
    {
        int _S22 = int(4) * i_2;
        words_0[i_2] = ntPack(ntInputBytes(float4((*values_0)[_S22], (*values_0)[_S22 + int(1)], (*values_0)[_S22 + int(2)], (*values_0)[_S22 + int(3)])));
        i_2 = i_2 + int(1);
    }
    int _S23 = NT_NUM_HIDDEN_LAYERS + int(1);
    int count_0 = _S21;
//!!! without
//!! with products of 16 bits
    int first_3;
    int _S21 = NT_GROUP_INPUTS;
    int _S22 = NT_NUM_HIDDEN_LAYERS + int(1);
//!! without
    int i_2;
    int _S21 = NT_NUM_HIDDEN_LAYERS + int(1);
//!! both
    int inputCount_0 = NT_NUM_INPUTS;
//!!! both
    int layer_0 = int(0);
//!!! with whole numbers of 8 bits
    int at_0 = int(0);
    while(layer_0 < _S23)
//!!! without
//!! with products of 16 bits
    int column_1 = int(0);
    while(layer_0 < _S22)
//!! without
    int column_0 = int(0);
    while(layer_0 < _S21)
//!! both
//!!! both
    {
//!!! with whole numbers of 8 bits
        bool last_0 = layer_0 == (_S23 - int(1));
        int4 _S24 = int4(int(0), int(0), int(0), int(0));
        bool _S25 = !last_0;
        int at_1;
        int4 shifts_0;
        int4 constants_0;
        if(_S25)
//!!! without
//!! with products of 16 bits
        bool last_0 = layer_0 == (_S22 - int(1));
//!! without
        bool last_0 = layer_0 == (_S21 - int(1));
//!! both
        int outputCount_0;
        if(last_0)
//!!! both
        {
//!!! with whole numbers of 8 bits
            int4 _S26 = int4((ntWeights((at_0 + int(1)))));
            int at_2 = at_0 + int(2);
            shifts_0 = int4((ntWeights((at_0))));
            constants_0 = _S26;
            at_1 = at_2;
//!!! without
            outputCount_0 = int(16);
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
        thread array<uint, NT_LAYER_WORDS> next_0;
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
        thread array<half, NT_LAYER_WIDTH> outputs_0;
//!! without
        thread array<float, NT_LAYER_WIDTH> outputs_0;
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
            float4 _S23 = float4(0.0f, 0.0f, 0.0f, 0.0f);
            first_3 = int(0);
            float4 sum_0 = _S23;
            while(first_3 < inputCount_0)
//!! without
            float4 _S22 = float4(0.0f, 0.0f, 0.0f, 0.0f);
//!!! both
            i_2 = int(0);
//!!! with whole numbers of 8 bits
            while(i_2 < count_0)
//!!! without
            float4 sum_0 = _S22;
            while(i_2 < inputCount_0)
//!! both
//!!! both
            {
//!!! with whole numbers of 8 bits
                int4 _S27 = (ntDots(((ntWeights((at_3 + i_2)))), (words_0[i_2]), (sums_0)));
                int _S28 = i_2 + int(1);
                sums_0 = _S27;
                i_2 = _S28;
//!!! without
//!! with products of 16 bits
                half4 _S24 = ntBlock(column_1 + first_3, half4((*values_0)[first_3], (*values_0)[first_3 + int(1)], (*values_0)[first_3 + int(2)], (*values_0)[first_3 + int(3)]));
                int next_0 = int(4);
                half4 part_0 = _S24;
                while(next_0 < _S21)
                {
                    int i_2 = first_3 + next_0;
                    half4 part_1 = part_0 + ntBlock(column_1 + i_2, half4((*values_0)[i_2], (*values_0)[i_2 + int(1)], (*values_0)[i_2 + int(2)], (*values_0)[i_2 + int(3)]));
                    next_0 = next_0 + int(4);
                    part_0 = part_1;
                }
                float4 sum_1 = sum_0 + float4(part_0);
                first_3 = first_3 + _S21;
//!! without
                float4 sum_1 = sum_0 + (ntWeights((column_0 + i_2))) * float4((*values_0)[i_2]) ;
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
                float4 outputs_0 = float4(sums_0) * (as_type<float4>((factors_0)));
                int _S29 = int(4) * row_0;
                (*found_0)[_S29] = outputs_0.x;
                (*found_0)[_S29 + int(1)] = outputs_0.y;
                (*found_0)[_S29 + int(2)] = outputs_0.z;
                (*found_0)[_S29 + int(3)] = outputs_0.w;
//!!! without
//! with scales of rows
//!! with products of 16 bits
                (*found_0)[row_0] = sum_2.x;
                (*found_0)[row_0 + int(1)] = sum_2.y;
                (*found_0)[row_0 + int(2)] = sum_2.z;
                (*found_0)[row_0 + int(3)] = sum_2.w;
//!! without
                sum_3 = float4(ntActivate(sum_2.x), ntActivate(sum_2.y), ntActivate(sum_2.z), ntActivate(sum_2.w));
//!! both
//! without
//!! with products of 16 bits
                (*found_0)[row_0] = sum_0.x;
                (*found_0)[row_0 + int(1)] = sum_0.y;
                (*found_0)[row_0 + int(2)] = sum_0.z;
                (*found_0)[row_0 + int(3)] = sum_0.w;
//!! without
                sum_2 = float4(ntActivate(sum_0.x), ntActivate(sum_0.y), ntActivate(sum_0.z), ntActivate(sum_0.w));
//!! both
//! both
//!!! both
            }
            else
            {
//!!! with whole numbers of 8 bits
                int4 p_0 = ((sums_0 >> (uint4(uint(shifts_0.x)) )) * int4(factors_0) + int4(shifts_0.w) ) >> (uint4(uint(shifts_0.y)) );
                int4 y_0;
                if(NT_HARD_SWISH == int(1))
                {
                    int _S30 = constants_0.y;
                    y_0 = min(p_0, int4(constants_0.x) ) * clamp(p_0 + int4(_S30) , int4(int(0)) , int4((int(2) * _S30)) );
                }
                else
                {
                    int4 _S31 = int4(int(0)) ;
                    y_0 = max(p_0, _S31) + ((clamp(p_0, int4(- constants_0.x) , _S31) * int4(constants_0.z) ) >> (uint4(15U) ));
                }
                next_0[row_0] = ntPack(uint4(clamp((y_0 + int4(constants_0.w) ) >> (uint4(uint(shifts_0.z)) ), int4(int(0)) , int4(int(255)) )));
//!!! without
//! with scales of rows
//!! with products of 16 bits
                outputs_0[row_0] = half(ntActivate(sum_2.x));
                outputs_0[row_0 + int(1)] = half(ntActivate(sum_2.y));
                outputs_0[row_0 + int(2)] = half(ntActivate(sum_2.z));
                outputs_0[row_0 + int(3)] = half(ntActivate(sum_2.w));
//!! without
                sum_3 = sum_2;
//!! both
//! without
//!! with products of 16 bits
                outputs_0[row_0] = half(ntActivate(sum_0.x));
                outputs_0[row_0 + int(1)] = half(ntActivate(sum_0.y));
                outputs_0[row_0 + int(2)] = half(ntActivate(sum_0.z));
                outputs_0[row_0 + int(3)] = half(ntActivate(sum_0.w));
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
        if(_S25)
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
            int k_0 = int(0);
            while(k_0 < outputWords_0)
//!!! without
//!! with products of 16 bits
            first_3 = int(0);
            while(first_3 < outputCount_0)
//!!! both
            {
//!!! with whole numbers of 8 bits
                words_0[k_0] = next_0[k_0];
                k_0 = k_0 + int(1);
//!!! without
                (*values_0)[first_3] = outputs_0[first_3];
                first_3 = first_3 + int(1);
//!!! both
            }
//!!! with whole numbers of 8 bits
//!!! without
//!! without
            (*values_0)[i_2] = outputs_0[i_2];
            i_2 = i_2 + int(1);
//!! both
//!!! both
        }
//!!! with whole numbers of 8 bits
        int _S32 = layer_0 + int(1);
        count_0 = outputWords_0;
        layer_0 = _S32;
//!!! without
//!! with products of 16 bits
        int _S25 = layer_0 + int(1);
//!! without
        int _S23 = layer_0 + int(1);
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

NtMaterial ntDecode(float2 uv_2, float lod_3)
{
//!!! with whole numbers of 8 bits
    int _S33 = NT_NUM_LODS - int(1);
    float level_0 = clamp(lod_3, 0.0f, float(_S33));
    float2 _S34 = uv_2 - floor(uv_2);
//!!! without
//!! with products of 16 bits
    int _S26 = NT_NUM_LODS - int(1);
    float level_0 = clamp(lod_3, 0.0f, float(_S26));
    float2 _S27 = uv_2 - floor(uv_2);
//!! without
    int _S24 = NT_NUM_LODS - int(1);
    float level_0 = clamp(lod_3, 0.0f, float(_S24));
    float2 _S25 = uv_2 - floor(uv_2);
//!! both
//!!! both
    int near_1 = int(level_0);
//!!! with whole numbers of 8 bits
    int _S35 = min(near_1 + int(1), _S33);
//!!! without
//!! with products of 16 bits
    int _S28 = min(near_1 + int(1), _S26);
//!! without
    int _S26 = min(near_1 + int(1), _S24);
//!! both
//!!! both
    float blend_1 = level_0 - float(near_1);
    bool twice_0 = NT_BLEND_OUTPUTS == int(1);
//!!! with whole numbers of 8 bits
    bool _S36;
//!!! without
//!! with products of 16 bits
    bool _S29;
//!! without
    bool _S27;
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
    int channel_0;
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
        channel_0 = int(2);
    }
    else
    {
        channel_0 = int(1);
    }
    thread array<float, int(16)> decoded_0;
    int pass_0 = int(0);
    while(pass_0 < channel_0)
    {
//!!! with whole numbers of 8 bits
        bool _S37 = pass_0 == int(0);
//!!! without
//!! with products of 16 bits
        bool _S30 = pass_0 == int(0);
//!! without
        bool _S28 = pass_0 == int(0);
//!! both
//!!! both
        int lower_0;
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
        thread array<half, NT_LAYER_WIDTH> values_1;
        float _S31;
//!! without
//!!! both
        thread array<float, NT_LAYER_WIDTH> values_1;
//!!! with whole numbers of 8 bits
        float _S38;
//!!! without
        float _S29;
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
        float _S39;
//!!! without
//!! with products of 16 bits
        float _S32;
//!! without
        float _S30;
//!! both
//!!! both
        if(twice_0)
        {
//!!! with whole numbers of 8 bits
            _S39 = float(lower_0);
//!!! without
//!! with products of 16 bits
            _S32 = float(lower_0);
//!! without
            _S30 = float(lower_0);
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
        ntDecoderInputs(&values_1, _S34, lower_0, _S35, _S38, _S39);
//!!! without
//!! with products of 16 bits
        ntDecoderInputs(&values_1, _S27, lower_0, _S28, _S31, _S32);
//!!! both
        thread array<float, int(16)> found_1;
        ntNetwork(&values_1, &found_1);
//!!! with whole numbers of 8 bits
//!!! without
//!! without
        ntDecoderInputs(&values_1, _S25, lower_0, _S26, _S29, _S30);
        ntNetwork(&values_1);
//!! both
//!!! both
        int i_3 = int(0);
        while(i_3 < int(16))
        {
//!!! with whole numbers of 8 bits
            float _S40;
            if(_S37)
//!!! without
//!! with products of 16 bits
            float _S33;
            if(_S30)
//!! without
            float _S31;
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
    thread NtMaterial material_0;
    (&material_0)->diffuse = float3(decoded_0[int(0)], decoded_0[int(1)], decoded_0[int(2)]);
    (&material_0)->normal = float3(decoded_0[int(3)], decoded_0[int(4)], decoded_0[int(5)]);
    (&material_0)->roughness = decoded_0[int(6)];
    (&material_0)->occlusion = decoded_0[int(7)];
    (&material_0)->metallic = decoded_0[int(8)];
    (&material_0)->specular = decoded_0[int(9)];
    (&material_0)->displacement = decoded_0[int(10)];
//! with extra maps
    (&material_0)->opacity = decoded_0[int(11)];
    (&material_0)->emissive = float3(decoded_0[int(12)], decoded_0[int(13)], decoded_0[int(14)]);
    (&material_0)->extra = decoded_0[int(15)];
//! without
//! both
    return material_0;
}

float3 ntUnitNormal(const NtMaterial thread* material_1)
{
    float3 vector_0 = material_1->normal * float3(2.0f)  - float3(1.0f) ;
    float size_0 = length(vector_0);
    bool _S32;
    if(NT_HAS_NORMAL == int(1))
    {
        _S32 = size_0 > 9.99999997475242708e-07f;
    }
    else
    {
        _S32 = false;
    }
    float3 _S33;
    if(_S32)
    {
        _S33 = vector_0 / float3(size_0) ;
    }
    else
    {
        _S33 = float3(0.0f, 0.0f, 1.0f);
    }
    return _S33;
}

float3 ntSrgbToLinear(float3 color_0)
{
    float3 c_0 = clamp(color_0, float3(0.0f, 0.0f, 0.0f), float3(1.0f, 1.0f, 1.0f));
    float3 low_0 = c_0 / float3(12.92000007629394531f) ;
    float3 high_0 = pow((c_0 + float3(0.05499999970197678f) ) / float3(1.0549999475479126f) , float3(2.40000009536743164f, 2.40000009536743164f, 2.40000009536743164f));
    float _S34;
    if((c_0.x) <= 0.04044999927282333f)
    {
        _S34 = low_0.x;
    }
    else
    {
        _S34 = high_0.x;
    }
    float _S35;
    if((c_0.y) <= 0.04044999927282333f)
    {
        _S35 = low_0.y;
    }
    else
    {
        _S35 = high_0.y;
    }
    float _S36;
    if((c_0.z) <= 0.04044999927282333f)
    {
        _S36 = low_0.z;
    }
    else
    {
        _S36 = high_0.z;
    }
    return float3(_S34, _S35, _S36);
}

float3 ntLinearDiffuse(const NtMaterial thread* material_2)
{
    float3 _S37;
    if(NT_DIFFUSE_IS_SRGB == int(1))
    {
        _S37 = ntSrgbToLinear(material_2->diffuse);
    }
    else
    {
//! with units of diffuse
        _S37 = (ntFileDiffuse((material_2->diffuse)));
//! without
        _S37 = material_2->diffuse;
//! both
    }
    return _S37;
}

float ntLod(float2 across_1, float2 down_1)
{
    float2 size_1 = float2(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT);
    float2 a_0 = across_1 * size_1;
    float2 b_0 = down_1 * size_1;
    return 0.5f * log2(max(max(dot(a_0, a_0), dot(b_0, b_0)), 9.999999960041972e-13f));
}

float2 ntTexelCentre(float2 uv_3, float lod_4, float2 random_0)
{
    uint _S38 = uint(int(clamp(lod_4, 0.0f, float(NT_NUM_LODS - int(1))) + 0.5f));
    float2 size_2 = float2(float(max(int(NT_MATERIAL_WIDTH) >> _S38, int(1))), float(max(int(NT_MATERIAL_HEIGHT) >> _S38, int(1))));
    float2 _S39 = float2(0.5f) ;
    return (floor(uv_3 * size_2 - _S39 + random_0) + _S39) / size_2;
}
