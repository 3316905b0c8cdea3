// Generated from f2.slang; do not edit.

float ntSine(float turns_0)
{
    return sin(6.28318548202514648f * (turns_0 - floor(turns_0 + 0.5f)));
}

void ntStart(out float  values_0[NT_LAYER_WIDTH], float hours_0)
{
    int i_0 = int(0);
    while(i_0 < NT_LAYER_WIDTH)
    {
        values_0[i_0] = 0.0f;
        i_0 = i_0 + int(1);
    }
    float turns_1 = hours_0 / 24.0f;
    float turns_2 = turns_1 - floor(turns_1);
    int k_0 = int(0);
    while(k_0 < NT_NUM_HARMONICS)
    {
        int _S1 = k_0 + int(1);
        float angle_0 = turns_2 * float(_S1);
        int _S2 = NT_NUM_CHANNELS + int(2) * k_0;
        values_0[_S2] = ntSine(angle_0);
        values_0[_S2 + int(1)] = ntSine(angle_0 + 0.25f);
        k_0 = _S1;
    }
    return;
}

void ntAddLatent(inout float  values_1[NT_LAYER_WIDTH], int2 texel_0, float share_0)
{
    int _S3 = NT_NUM_PLANES;
    int plane_0 = int(0);
    while(plane_0 < _S3)
    {
        float4 _S4 = (ntWeights((plane_0))) + (ntWeights((_S3 + plane_0))) * (ntFetchTexel((plane_0), (texel_0), 0));
        int _S5 = int(4) * plane_0;
        int _S6 = min(int(4), NT_NUM_CHANNELS - _S5);
        int k_1 = int(0);
        while(k_1 < _S6)
        {
            values_1[_S5 + k_1] = values_1[_S5 + k_1] + share_0 * _S4[k_1];
            k_1 = k_1 + int(1);
        }
        plane_0 = plane_0 + int(1);
    }
    return;
}

float3 ntBetween(int first_0, int second_0, float share_1)
{
    float4 column_0 = (ntWeights((first_0))) * (1.0f - share_1) + (ntWeights((second_0))) * share_1;
    return float3(column_0.x, column_0.y, column_0.z);
}

float3 ntFrameColors(float  values_2[NT_LAYER_WIDTH], int first_1, int second_1, int count_0, float share_2)
{
    float3 _S7 = float3(0.0f, 0.0f, 0.0f);
    int i_1 = int(0);
    float3 sum_0 = _S7;
    while(i_1 < count_0)
    {
        float3 sum_1 = sum_0 + ntBetween(first_1 + i_1, second_1 + i_1, share_2) * values_2[i_1];
        i_1 = i_1 + int(1);
        sum_0 = sum_1;
    }
    return sum_0;
}

float3 ntNetwork(inout float  values_3[NT_LAYER_WIDTH], float hours_1)
{
    int i_2;
    int column_1 = int(2) * NT_NUM_PLANES;
    int _S8 = NT_NUM_CHANNELS;
    int _S9 = _S8 + int(2) * NT_NUM_HARMONICS;
    int _S10 = NT_NUM_SINE_LAYERS;
    int layers_0 = _S10 + int(1);
    float3 _S11 = float3(0.0f, 0.0f, 0.0f);
    int _S12 = NT_NUM_FRAMES;
    bool _S13 = _S12 > int(0);
    int first_2;
    int second_2;
    int layers_1;
    int column_2;
    float share_3;
    float3 color_0;
    if(_S13)
    {
        float turns_3 = hours_1 / 24.0f;
        float position_0 = (turns_3 - floor(turns_3)) * float(_S12);
        int _S14 = min(int(position_0), _S12 - int(1));
        int _S15 = _S14 + int(1);
        if(_S15 == _S12)
        {
            first_2 = int(0);
        }
        else
        {
            first_2 = _S15;
        }
        float share_4 = position_0 - float(_S14);
        int each_0 = int(1) + _S8;
        int a_0 = column_1 + _S14 * each_0;
        int b_0 = column_1 + first_2 * each_0;
        float3 color_1 = ntBetween(a_0, b_0, share_4) + ntFrameColors(values_3, a_0 + int(1), b_0 + int(1), _S8, share_4);
        int column_3 = column_1 + _S12 * each_0;
        int layers_2 = layers_0 - int(1);
        int _S16 = first_2;
        first_2 = _S14;
        second_2 = _S16;
        share_3 = share_4;
        layers_1 = layers_2;
        column_2 = column_3;
        color_0 = color_1;
    }
    else
    {
        first_2 = int(0);
        second_2 = int(0);
        share_3 = 0.0f;
        layers_1 = layers_0;
        column_2 = column_1;
        color_0 = _S11;
    }
    int inputCount_0 = _S9;
    int layer_0 = int(0);
    while(layer_0 < layers_1)
    {
        bool last_0 = layer_0 == _S10;
        int _S17;
        if(last_0)
        {
            _S17 = int(4);
        }
        else
        {
            _S17 = NT_NUM_NEURONS;
        }
        float  outputs_0[NT_LAYER_WIDTH];
        int row_0 = int(0);
        while(row_0 < _S17)
        {
            float4 _S18 = (ntWeights((column_2)));
            i_2 = int(0);
            float4 sum_2 = _S18;
            while(i_2 < inputCount_0)
            {
                float4 sum_3 = sum_2 + (ntWeights((column_2 + int(1) + i_2))) * values_3[i_2];
                i_2 = i_2 + int(1);
                sum_2 = sum_3;
            }
            int column_4 = column_2 + (int(1) + inputCount_0);
            float4 sum_4;
            if(!last_0)
            {
                sum_4 = float4(ntSine(sum_2.x), ntSine(sum_2.y), ntSine(sum_2.z), ntSine(sum_2.w));
            }
            else
            {
                sum_4 = sum_2;
            }
            outputs_0[row_0] = sum_4.x;
            outputs_0[row_0 + int(1)] = sum_4.y;
            outputs_0[row_0 + int(2)] = sum_4.z;
            outputs_0[row_0 + int(3)] = sum_4.w;
            row_0 = row_0 + int(4);
            column_2 = column_4;
        }
        i_2 = int(0);
        while(i_2 < _S17)
        {
            values_3[i_2] = outputs_0[i_2];
            i_2 = i_2 + int(1);
        }
        int _S19 = NT_NUM_NEURONS;
        int _S20 = layer_0 + int(1);
        inputCount_0 = _S19;
        layer_0 = _S20;
    }
    if(_S13)
    {
        int each_1 = NT_NUM_NEURONS;
        return color_0 + ntFrameColors(values_3, column_2 + first_2 * each_1, column_2 + second_2 * each_1, each_1, share_3);
    }
    return float3(values_3[int(0)], values_3[int(1)], values_3[int(2)]);
}

float3 ntDecode(float2 uv_0, float hours_2)
{
    int _S21 = NT_LATENT_WIDTH;
    int _S22 = NT_LATENT_HEIGHT;
    float2 position_1 = uv_0 * float2(float(_S21), float(_S22)) - 0.5f;
    float2 corner_0 = floor(position_1);
    float2 _S23 = position_1 - corner_0;
    float  values_4[NT_LAYER_WIDTH];
    ntStart(values_4, hours_2);
    int which_0 = int(0);
    while(which_0 < int(4))
    {
        int _S24 = which_0 & int(1);
        int _S25 = which_0 >> int(1);
        int2 texel_1 = clamp(int2(corner_0) + int2(_S24, _S25), int2(int(0), int(0)), int2(_S21 - int(1), _S22 - int(1)));
        float across_0;
        if(_S24 == int(0))
        {
            across_0 = 1.0f - _S23.x;
        }
        else
        {
            across_0 = _S23.x;
        }
        float down_0;
        if(_S25 == int(0))
        {
            down_0 = 1.0f - _S23.y;
        }
        else
        {
            down_0 = _S23.y;
        }
        ntAddLatent(values_4, texel_1, across_0 * down_0);
        which_0 = which_0 + int(1);
    }
    float3 _S26 = ntNetwork(values_4, hours_2);
    return _S26;
}

float3 ntLight(float3 encoded_0)
{
    if(NT_HIGH_RANGE == int(1))
    {
        return (exp(max(encoded_0, float3(0.0f, 0.0f, 0.0f)) * NT_RANGE_LOG) - 1.0f) * NT_RANGE_SCALE;
    }
    return clamp(encoded_0, float3(0.0f, 0.0f, 0.0f), float3(1.0f, 1.0f, 1.0f));
}

float3 ntDecodeTexel(int2 texel_2, float hours_3)
{
    float  values_5[NT_LAYER_WIDTH];
    ntStart(values_5, hours_3);
    ntAddLatent(values_5, texel_2, 1.0f);
    float3 _S27 = ntNetwork(values_5, hours_3);
    return _S27;
}
