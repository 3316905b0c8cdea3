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

float3 ntNetwork(inout float  values_2[NT_LAYER_WIDTH])
{
    int i_1;
    int _S7 = int(2) * NT_NUM_PLANES;
    int _S8 = NT_NUM_SINE_LAYERS + int(1);
    int inputCount_0 = NT_NUM_CHANNELS + int(2) * NT_NUM_HARMONICS;
    int layer_0 = int(0);
    int column_0 = _S7;
    while(layer_0 < _S8)
    {
        bool last_0 = layer_0 == (_S8 - int(1));
        int _S9;
        if(last_0)
        {
            _S9 = int(4);
        }
        else
        {
            _S9 = NT_NUM_NEURONS;
        }
        float  outputs_0[NT_LAYER_WIDTH];
        int row_0 = int(0);
        while(row_0 < _S9)
        {
            float4 _S10 = (ntWeights((column_0)));
            i_1 = int(0);
            float4 sum_0 = _S10;
            while(i_1 < inputCount_0)
            {
                float4 sum_1 = sum_0 + (ntWeights((column_0 + int(1) + i_1))) * values_2[i_1];
                i_1 = i_1 + int(1);
                sum_0 = sum_1;
            }
            int column_1 = column_0 + (int(1) + inputCount_0);
            float4 sum_2;
            if(!last_0)
            {
                sum_2 = float4(ntSine(sum_0.x), ntSine(sum_0.y), ntSine(sum_0.z), ntSine(sum_0.w));
            }
            else
            {
                sum_2 = sum_0;
            }
            outputs_0[row_0] = sum_2.x;
            outputs_0[row_0 + int(1)] = sum_2.y;
            outputs_0[row_0 + int(2)] = sum_2.z;
            outputs_0[row_0 + int(3)] = sum_2.w;
            row_0 = row_0 + int(4);
            column_0 = column_1;
        }
        i_1 = int(0);
        while(i_1 < _S9)
        {
            values_2[i_1] = outputs_0[i_1];
            i_1 = i_1 + int(1);
        }
        int _S11 = NT_NUM_NEURONS;
        int _S12 = layer_0 + int(1);
        inputCount_0 = _S11;
        layer_0 = _S12;
    }
    return float3(values_2[int(0)], values_2[int(1)], values_2[int(2)]);
}

float3 ntDecode(float2 uv_0, float hours_1)
{
    int _S13 = NT_LATENT_WIDTH;
    int _S14 = NT_LATENT_HEIGHT;
    float2 position_0 = uv_0 * float2(float(_S13), float(_S14)) - 0.5f;
    float2 corner_0 = floor(position_0);
    float2 _S15 = position_0 - corner_0;
    float  values_3[NT_LAYER_WIDTH];
    ntStart(values_3, hours_1);
    int which_0 = int(0);
    while(which_0 < int(4))
    {
        int _S16 = which_0 & int(1);
        int _S17 = which_0 >> int(1);
        int2 texel_1 = clamp(int2(corner_0) + int2(_S16, _S17), int2(int(0), int(0)), int2(_S13 - int(1), _S14 - int(1)));
        float across_0;
        if(_S16 == int(0))
        {
            across_0 = 1.0f - _S15.x;
        }
        else
        {
            across_0 = _S15.x;
        }
        float down_0;
        if(_S17 == int(0))
        {
            down_0 = 1.0f - _S15.y;
        }
        else
        {
            down_0 = _S15.y;
        }
        ntAddLatent(values_3, texel_1, across_0 * down_0);
        which_0 = which_0 + int(1);
    }
    float3 _S18 = ntNetwork(values_3);
    return _S18;
}

float3 ntLight(float3 encoded_0)
{
    if(NT_HIGH_RANGE == int(1))
    {
        return (exp(max(encoded_0, float3(0.0f, 0.0f, 0.0f)) * NT_RANGE_LOG) - 1.0f) * NT_RANGE_SCALE;
    }
    return clamp(encoded_0, float3(0.0f, 0.0f, 0.0f), float3(1.0f, 1.0f, 1.0f));
}

float3 ntDecodeTexel(int2 texel_2, float hours_2)
{
    float  values_4[NT_LAYER_WIDTH];
    ntStart(values_4, hours_2);
    ntAddLatent(values_4, texel_2, 1.0f);
    float3 _S19 = ntNetwork(values_4);
    return _S19;
}
