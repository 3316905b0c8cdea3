// Generated from blocks.slang; do not edit.

float4 ntChannelsOf(int search_0)
{
    if(search_0 == int(0))
    {
        return float4(1.0f, 1.0f, 1.0f, 1.0f);
    }
    bool alpha_0;
    if(search_0 == int(2))
    {
        alpha_0 = true;
    }
    else
    {
        alpha_0 = search_0 == int(4);
    }
    if(alpha_0)
    {
        alpha_0 = true;
    }
    else
    {
        alpha_0 = search_0 == int(6);
    }
    float4 _S1;
    if(alpha_0)
    {
        _S1 = float4(0.0f, 0.0f, 0.0f, 1.0f);
    }
    else
    {
        _S1 = float4(1.0f, 1.0f, 1.0f, 0.0f);
    }
    return _S1;
}

int ntLastIndex(int search_1)
{
    int _S2;
    if(search_1 == int(0))
    {
        _S2 = int(15);
    }
    else
    {
        bool _S3;
        if(search_1 == int(3))
        {
            _S3 = true;
        }
        else
        {
            _S3 = search_1 == int(6);
        }
        if(_S3)
        {
            _S2 = int(7);
        }
        else
        {
            _S2 = int(3);
        }
    }
    return _S2;
}

void ntMainAxis(float4  texels_0[int(16)], out float4 low_0, out float4 high_0)
{
    float4 _S4 = float4(0.0f, 0.0f, 0.0f, 0.0f);
    int i_0 = int(0);
    float4 mean_0 = _S4;
    while(i_0 < int(16))
    {
        float4 mean_1 = mean_0 + texels_0[i_0] / 16.0f;
        i_0 = i_0 + int(1);
        mean_0 = mean_1;
    }
    int j_0 = int(0);
    float4 red_0 = _S4;
    float4 green_0 = _S4;
    float4 blue_0 = _S4;
    float4 alpha_1 = _S4;
    while(j_0 < int(16))
    {
        float4 off_0 = texels_0[j_0] - mean_0;
        float4 red_1 = red_0 + off_0.x * off_0;
        float4 green_1 = green_0 + off_0.y * off_0;
        float4 blue_1 = blue_0 + off_0.z * off_0;
        float4 alpha_2 = alpha_1 + off_0.w * off_0;
        j_0 = j_0 + int(1);
        red_0 = red_1;
        green_0 = green_1;
        blue_0 = blue_1;
        alpha_1 = alpha_2;
    }
    float most_0 = red_0.x;
    float _S5 = green_0.y;
    float4 axis_0;
    float most_1;
    if(_S5 > most_0)
    {
        most_1 = _S5;
        axis_0 = green_0;
    }
    else
    {
        most_1 = most_0;
        axis_0 = red_0;
    }
    float _S6 = blue_0.z;
    if(_S6 > most_1)
    {
        most_1 = _S6;
        axis_0 = blue_0;
    }
    if((alpha_1.w) > most_1)
    {
        axis_0 = alpha_1;
    }
    int round_0 = int(0);
    while(round_0 < int(4))
    {
        float _S7 = dot(red_0, axis_0);
        float _S8 = dot(green_0, axis_0);
        float _S9 = dot(blue_0, axis_0);
        float _S10 = dot(alpha_1, axis_0);
        float4 axis_1 = float4(_S7, _S8, _S9, _S10) / max(max(max(abs(_S7), abs(_S8)), max(abs(_S9), abs(_S10))), 9.99999997475242708e-07f);
        round_0 = round_0 + int(1);
        axis_0 = axis_1;
    }
    float _S11 = max(dot(axis_0, axis_0), 9.99999997475242708e-07f);
    float least_0 = 0.0f;
    float furthest_0 = 0.0f;
    int k_0 = int(0);
    while(k_0 < int(16))
    {
        float place_0 = dot(texels_0[k_0] - mean_0, axis_0) / _S11;
        float _S12 = min(least_0, place_0);
        float _S13 = max(furthest_0, place_0);
        int _S14 = k_0 + int(1);
        least_0 = _S12;
        furthest_0 = _S13;
        k_0 = _S14;
    }
    float4 _S15 = (float4)0.0f;
    float4 _S16 = (float4)255.0f;
    low_0 = clamp(mean_0 + axis_0 * least_0, _S15, _S16);
    high_0 = clamp(mean_0 + axis_0 * furthest_0, _S15, _S16);
    return;
}

float4 ntRepeated(float4 value_0, float top_0, float high_1, float low_1)
{
    float4 code_0 = floor(value_0 * (top_0 / 255.0f) + 0.5f);
    return code_0 * high_1 + floor(code_0 / low_1);
}

float4 ntWithBit(float4 value_1, float bit_0)
{
    return floor(clamp((value_1 - bit_0) * 0.5f + 0.5f, (float4)0.0f, (float4)127.0f)) * 2.0f + bit_0;
}

float4 ntEndPoint(float4 value_2, int search_2, int alphas_0)
{
    if(search_2 == int(2))
    {
        return floor(value_2 + 0.5f);
    }
    if(search_2 == int(1))
    {
        return ntRepeated(value_2, 127.0f, 2.0f, 64.0f);
    }
    bool takeOdd_0;
    if(search_2 == int(4))
    {
        takeOdd_0 = true;
    }
    else
    {
        takeOdd_0 = search_2 == int(6);
    }
    if(takeOdd_0)
    {
        return ntRepeated(value_2, 63.0f, 4.0f, 16.0f);
    }
    if(search_2 == int(3))
    {
        takeOdd_0 = true;
    }
    else
    {
        takeOdd_0 = search_2 == int(5);
    }
    if(takeOdd_0)
    {
        return ntRepeated(value_2, 31.0f, 8.0f, 4.0f);
    }
    float4 odd_0 = ntWithBit(value_2, 1.0f);
    float4 even_0 = ntWithBit(value_2, 0.0f);
    float4 offOdd_0 = odd_0 - value_2;
    float4 offEven_0 = even_0 - value_2;
    if(alphas_0 == int(1))
    {
        takeOdd_0 = true;
    }
    else
    {
        if(alphas_0 == int(2))
        {
            takeOdd_0 = (dot(offOdd_0, offOdd_0)) < (dot(offEven_0, offEven_0));
        }
        else
        {
            takeOdd_0 = false;
        }
    }
    float4 _S17;
    if(takeOdd_0)
    {
        _S17 = odd_0;
    }
    else
    {
        _S17 = even_0;
    }
    return _S17;
}

float ntPlaceOf(int index_0, int last_0)
{
    int _S18 = (index_0 * int(64) + last_0 / int(2)) / last_0;
    return float(_S18);
}

float ntIndicesOf(float4  texels_1[int(16)], float4 low_2, float4 high_2, int last_1, out uint2 indices_0)
{
    indices_0 = uint2(0U, 0U);
    float4 axis_2 = high_2 - low_2;
    float _S19 = float(last_1);
    float _S20 = _S19 / max(dot(axis_2, axis_2), 9.99999997475242708e-07f);
    int i_1 = int(0);
    float total_0 = 0.0f;
    while(i_1 < int(16))
    {
        int index_1 = int(clamp(dot(texels_1[i_1] - low_2, axis_2) * _S20 + 0.5f, 0.0f, _S19));
        float4 _S21 = low_2 * 64.0f;
        float _S22 = ntPlaceOf(index_1, last_1);
        float4 off_1 = floor((_S21 + axis_2 * _S22 + 32.0f) / 64.0f) - texels_1[i_1];
        float total_1 = total_0 + dot(off_1, off_1);
        uint bits_0 = uint(index_1) << uint(int(4) * (i_1 & int(7)));
        if(i_1 < int(8))
        {
            indices_0[int(0)] = (indices_0[int(0)]) | bits_0;
        }
        else
        {
            indices_0[int(1)] = (indices_0[int(1)]) | bits_0;
        }
        i_1 = i_1 + int(1);
        total_0 = total_1;
    }
    return total_0;
}

int ntIndexAt(uint2 indices_1, int i_2)
{
    uint _S23;
    if(i_2 < int(8))
    {
        _S23 = indices_1.x;
    }
    else
    {
        _S23 = indices_1.y;
    }
    return int(_S23 >> uint(int(4) * (i_2 & int(7)))) & int(15);
}

void ntFit(float4  texels_2[int(16)], uint2 indices_2, int last_2, inout float4 low_3, inout float4 high_3)
{
    float4 _S24 = float4(0.0f, 0.0f, 0.0f, 0.0f);
    int i_3 = int(0);
    float a_0 = 0.0f;
    float b_0 = 0.0f;
    float c_0 = 0.0f;
    float4 d_0 = _S24;
    float4 e_0 = _S24;
    while(i_3 < int(16))
    {
        float _S25 = ntPlaceOf(ntIndexAt(indices_2, i_3), last_2);
        float place_1 = _S25 / 64.0f;
        float _S26 = 1.0f - place_1;
        float a_1 = a_0 + _S26 * _S26;
        float b_1 = b_0 + _S26 * place_1;
        float c_1 = c_0 + place_1 * place_1;
        float4 d_1 = d_0 + _S26 * texels_2[i_3];
        float4 e_1 = e_0 + place_1 * texels_2[i_3];
        i_3 = i_3 + int(1);
        a_0 = a_1;
        b_0 = b_1;
        c_0 = c_1;
        d_0 = d_1;
        e_0 = e_1;
    }
    float determinant_0 = a_0 * c_0 - b_0 * b_0;
    if(determinant_0 > 0.00100000004749745f)
    {
        float4 _S27 = (float4)0.0f;
        float4 _S28 = (float4)255.0f;
        low_3 = clamp((c_0 * d_0 - b_0 * e_0) / determinant_0, _S27, _S28);
        high_3 = clamp((a_0 * e_0 - b_0 * d_0) / determinant_0, _S27, _S28);
    }
    return;
}

float ntSearch(float4  texels_3[int(16)], int search_3, int alphas_1, out float4 first_0, out float4 second_0, out uint2 indices_3)
{
    int last_3 = ntLastIndex(search_3);
    float4 low_4;
    float4 high_4;
    ntMainAxis(texels_3, low_4, high_4);
    first_0 = low_4;
    second_0 = high_4;
    indices_3 = uint2(0U, 0U);
    float smallest_0 = 1.00000001504746622e+30f;
    int fit_0 = int(0);
    while(fit_0 <= int(3))
    {
        float4 e0_0 = ntEndPoint(low_4, search_3, alphas_1);
        float4 e1_0 = ntEndPoint(high_4, search_3, alphas_1);
        uint2 found_0;
        float error_0 = ntIndicesOf(texels_3, e0_0, e1_0, last_3, found_0);
        if(error_0 < smallest_0)
        {
            first_0 = e0_0;
            second_0 = e1_0;
            indices_3 = found_0;
            smallest_0 = error_0;
        }
        ntFit(texels_3, found_0, last_3, low_4, high_4);
        fit_0 = fit_0 + int(1);
    }
    if((ntIndexAt(indices_3, int(0))) > (last_3 / int(2)))
    {
        float4 swapped_0 = first_0;
        first_0 = second_0;
        second_0 = swapped_0;
        uint all_0 = uint(last_3) * 286331153U;
        indices_3 = uint2(all_0, all_0) - indices_3;
    }
    return smallest_0;
}

uint4 ntWordsOfMode6(float4 first_1, float4 second_1, uint2 indices_4)
{
    uint4 _S29 = uint4(first_1);
    uint4 _S30 = uint4(second_1);
    uint4 p_0 = _S29 >> 1U;
    uint4 q_0 = _S30 >> 1U;
    uint4 words_0;
    uint _S31 = q_0.y;
    words_0[int(0)] = (((64U | ((p_0.x) << 7U)) | ((q_0.x) << 14U)) | ((p_0.y) << 21U)) | (_S31 << 28U);
    words_0[int(1)] = (((((_S31 >> 4U) | ((p_0.z) << 3U)) | ((q_0.z) << 10U)) | ((p_0.w) << 17U)) | ((q_0.w) << 24U)) | (((_S29.x) & 1U) << 31U);
    uint _S32 = indices_4.x;
    words_0[int(2)] = (((_S30.x) & 1U) | ((_S32 & 7U) << 1U)) | (_S32 & 4294967280U);
    words_0[int(3)] = indices_4.y;
    return words_0;
}

uint ntTwoBits(uint2 indices_5)
{
    uint _S33 = uint(ntIndexAt(indices_5, int(0)));
    int i_4 = int(1);
    uint bits_1 = _S33;
    while(i_4 < int(16))
    {
        uint bits_2 = bits_1 | (uint(ntIndexAt(indices_5, i_4)) << uint(int(2) * i_4 - int(1)));
        i_4 = i_4 + int(1);
        bits_1 = bits_2;
    }
    return bits_1;
}

uint4 ntWordsOfMode5(float4 first_2, float4 second_2, uint2 indices_6, float2 alphas_2, uint2 alphaIndices_0)
{
    uint4 p_1 = uint4(first_2) >> 1U;
    uint4 q_1 = uint4(second_2) >> 1U;
    uint2 _S34 = uint2(alphas_2);
    uint colours_0 = ntTwoBits(indices_6);
    uint4 words_1;
    uint _S35 = q_1.y;
    words_1[int(0)] = (((32U | ((p_1.x) << 8U)) | ((q_1.x) << 15U)) | ((p_1.y) << 22U)) | (_S35 << 29U);
    uint _S36 = _S34.y;
    words_1[int(1)] = ((((_S35 >> 3U) | ((p_1.z) << 4U)) | ((q_1.z) << 11U)) | ((_S34.x) << 18U)) | (_S36 << 26U);
    words_1[int(2)] = (_S36 >> 6U) | (colours_0 << 2U);
    words_1[int(3)] = (colours_0 >> 30U) | ((ntTwoBits(alphaIndices_0)) << 1U);
    return words_1;
}

uint2 ntThreeBits(uint2 indices_7)
{
    uint2 bits_3 = uint2(uint(ntIndexAt(indices_7, int(0))), 0U);
    int i_5 = int(1);
    while(i_5 < int(16))
    {
        uint index_2 = uint(ntIndexAt(indices_7, i_5));
        if(i_5 < int(11))
        {
            bits_3[int(0)] = (bits_3[int(0)]) | (index_2 << uint(int(3) * i_5 - int(1)));
        }
        else
        {
            bits_3[int(1)] = (bits_3[int(1)]) | (index_2 << uint(int(3) * i_5 - int(33)));
        }
        i_5 = i_5 + int(1);
    }
    return bits_3;
}

uint4 ntWordsOfMode4(float4 first_3, float4 second_3, uint2 indices_8, float2 alphas_3, uint2 alphaIndices_1, uint more_0)
{
    uint4 p_2 = uint4(first_3) >> 3U;
    uint4 q_2 = uint4(second_3) >> 3U;
    uint2 a_2 = uint2(alphas_3) >> 2U;
    bool _S37 = more_0 == 1U;
    uint2 _S38;
    if(_S37)
    {
        _S38 = alphaIndices_1;
    }
    else
    {
        _S38 = indices_8;
    }
    uint two_0 = ntTwoBits(_S38);
    if(_S37)
    {
        _S38 = indices_8;
    }
    else
    {
        _S38 = alphaIndices_1;
    }
    uint2 three_0 = ntThreeBits(_S38);
    uint4 words_2;
    uint _S39 = p_2.z;
    words_2[int(0)] = (((((16U | (more_0 << 7U)) | ((p_2.x) << 8U)) | ((q_2.x) << 13U)) | ((p_2.y) << 18U)) | ((q_2.y) << 23U)) | (_S39 << 28U);
    words_2[int(1)] = ((((_S39 >> 4U) | ((q_2.z) << 1U)) | ((a_2.x) << 6U)) | ((a_2.y) << 12U)) | (two_0 << 18U);
    uint _S40 = three_0.x;
    words_2[int(2)] = (two_0 >> 14U) | (_S40 << 17U);
    words_2[int(3)] = (_S40 >> 15U) | ((three_0.y) << 17U);
    return words_2;
}

uint4 ntBlockOfBC7(float4  texels_4[int(16)])
{
    int k_1;
    float least_1 = 255.0f;
    float most_2 = 0.0f;
    int i_6 = int(0);
    while(i_6 < int(16))
    {
        float _S41 = texels_4[i_6].w;
        float _S42 = min(least_1, _S41);
        float _S43 = max(most_2, _S41);
        int _S44 = i_6 + int(1);
        least_1 = _S42;
        most_2 = _S43;
        i_6 = _S44;
    }
    if(least_1 >= 255.0f)
    {
        i_6 = int(1);
    }
    else
    {
        if(most_2 <= 0.0f)
        {
            i_6 = int(0);
        }
        else
        {
            i_6 = int(2);
        }
    }
    float4  first_4[int(7)];
    float4  second_4[int(7)];
    uint2  indices_9[int(7)];
    float  errors_0[int(7)];
    int _S45;
    if(least_1 == most_2)
    {
        _S45 = int(5);
    }
    else
    {
        _S45 = int(7);
    }
    int search_4 = int(0);
    while(search_4 < _S45)
    {
        float4  chosen_0[int(16)];
        k_1 = int(0);
        while(k_1 < int(16))
        {
            chosen_0[k_1] = texels_4[k_1] * ntChannelsOf(search_4);
            k_1 = k_1 + int(1);
        }
        float4 low_5;
        float4 high_5;
        uint2 found_1;
        float _S46 = ntSearch(chosen_0, search_4, i_6, low_5, high_5, found_1);
        errors_0[search_4] = _S46;
        first_4[search_4] = low_5;
        second_4[search_4] = high_5;
        indices_9[search_4] = found_1;
        search_4 = search_4 + int(1);
    }
    float smallest_1 = errors_0[int(0)];
    k_1 = int(0);
    int pair_0 = int(1);
    while(pair_0 < _S45)
    {
        float error_1 = errors_0[pair_0] + errors_0[pair_0 + int(1)];
        if(error_1 < smallest_1)
        {
            smallest_1 = error_1;
            k_1 = pair_0;
        }
        pair_0 = pair_0 + int(2);
    }
    if(k_1 == int(0))
    {
        return ntWordsOfMode6(first_4[int(0)], second_4[int(0)], indices_9[int(0)]);
    }
    int _S47 = k_1 + int(1);
    float2 ends_0 = float2(first_4[_S47].w, second_4[_S47].w);
    if(k_1 == int(1))
    {
        return ntWordsOfMode5(first_4[int(1)], second_4[int(1)], indices_9[int(1)], ends_0, indices_9[int(2)]);
    }
    uint more_1;
    if(k_1 == int(3))
    {
        more_1 = 1U;
    }
    else
    {
        more_1 = 0U;
    }
    return ntWordsOfMode4(first_4[k_1], second_4[k_1], indices_9[k_1], ends_0, indices_9[_S47], more_1);
}

float ntChannel(float4 texel_0, int channel_0)
{
    float _S48;
    if(channel_0 == int(0))
    {
        _S48 = texel_0.x;
    }
    else
    {
        if(channel_0 == int(1))
        {
            _S48 = texel_0.y;
        }
        else
        {
            if(channel_0 == int(2))
            {
                _S48 = texel_0.z;
            }
            else
            {
                _S48 = texel_0.w;
            }
        }
    }
    return _S48;
}

uint2 ntBlockOfBC4(float  values_0[int(16)])
{
    float low_6 = 255.0f;
    float high_6 = 0.0f;
    int i_7 = int(0);
    while(i_7 < int(16))
    {
        float _S49 = min(low_6, values_0[i_7]);
        float _S50 = max(high_6, values_0[i_7]);
        int _S51 = i_7 + int(1);
        low_6 = _S49;
        high_6 = _S50;
        i_7 = _S51;
    }
    uint2 words_3 = uint2(uint(high_6) | (uint(low_6) << 8U), 0U);
    if((high_6 - low_6) < 0.5f)
    {
        return words_3;
    }
    float smallest_2 = 1.00000001504746622e+30f;
    uint2 words_4 = words_3;
    int fit_1 = int(0);
    while(fit_1 <= int(2))
    {
        uint2 found_2 = uint2(uint(high_6) | (uint(low_6) << 8U), 0U);
        int k_2 = int(0);
        float error_2 = 0.0f;
        float a_3 = 0.0f;
        float b_2 = 0.0f;
        float c_2 = 0.0f;
        float d_2 = 0.0f;
        float e_2 = 0.0f;
        while(k_2 < int(16))
        {
            int step_0 = int(clamp((high_6 - values_0[k_2]) / (high_6 - low_6) * 7.0f + 0.5f, 0.0f, 7.0f));
            float place_2 = float(step_0) / 7.0f;
            float off_2 = high_6 + (low_6 - high_6) * place_2 - values_0[k_2];
            float error_3 = error_2 + off_2 * off_2;
            float _S52 = 1.0f - place_2;
            float a_4 = a_3 + _S52 * _S52;
            float b_3 = b_2 + _S52 * place_2;
            float c_3 = c_2 + place_2 * place_2;
            float d_3 = d_2 + _S52 * values_0[k_2];
            float e_3 = e_2 + place_2 * values_0[k_2];
            uint index_3;
            if(step_0 == int(0))
            {
                index_3 = 0U;
            }
            else
            {
                if(step_0 == int(7))
                {
                    index_3 = 1U;
                }
                else
                {
                    index_3 = uint(step_0 + int(1));
                }
            }
            int shift_0 = int(16) + int(3) * k_2;
            if(shift_0 < int(32))
            {
                found_2[int(0)] = (found_2[int(0)]) | (index_3 << uint(shift_0));
            }
            if(shift_0 >= int(32))
            {
                found_2[int(1)] = (found_2[int(1)]) | (index_3 << uint(shift_0 - int(32)));
            }
            else
            {
                if(shift_0 > int(29))
                {
                    found_2[int(1)] = (found_2[int(1)]) | (index_3 >> uint(int(32) - shift_0));
                }
            }
            k_2 = k_2 + int(1);
            error_2 = error_3;
            a_3 = a_4;
            b_2 = b_3;
            c_2 = c_3;
            d_2 = d_3;
            e_2 = e_3;
        }
        uint2 words_5;
        if(error_2 < smallest_2)
        {
            smallest_2 = error_2;
            words_5 = found_2;
        }
        else
        {
            words_5 = words_4;
        }
        float determinant_1 = a_3 * c_2 - b_2 * b_2;
        if(determinant_1 < 0.00100000004749745f)
        {
            words_4 = words_5;
            break;
        }
        float high_7 = floor(clamp((c_2 * d_2 - b_2 * e_2) / determinant_1, 0.0f, 255.0f) + 0.5f);
        float low_7 = floor(clamp((a_3 * e_2 - b_2 * d_2) / determinant_1, 0.0f, 255.0f) + 0.5f);
        if((high_7 - low_7) < 0.5f)
        {
            words_4 = words_5;
            break;
        }
        int _S53 = fit_1 + int(1);
        high_6 = high_7;
        low_6 = low_7;
        words_4 = words_5;
        fit_1 = _S53;
    }
    return words_4;
}

uint2 ntBlockOfChannel(float4  texels_5[int(16)], int channel_1)
{
    float  values_1[int(16)];
    int i_8 = int(0);
    while(i_8 < int(16))
    {
        values_1[i_8] = ntChannel(texels_5[i_8], channel_1);
        i_8 = i_8 + int(1);
    }
    return ntBlockOfBC4(values_1);
}

void ntEncodeBlock(int2 block_0)
{
    int _S54 = block_0.x;
    int _S55 = int(4) * _S54;
    int _S56 = ((ntImage.width));
    bool _S57;
    if(_S55 >= _S56)
    {
        _S57 = true;
    }
    else
    {
        int _S58 = int(4) * block_0.y;
        int _S59 = ((ntImage.height));
        _S57 = _S58 >= _S59;
    }
    if(_S57)
    {
        return;
    }
    float4  texels_6[int(16)];
    int i_9 = int(0);
    while(i_9 < int(16))
    {
        int _S60 = _S55 + (i_9 & int(3));
        int _S61 = ((ntImage.width));
        int _S62 = min(_S60, _S61 - int(1));
        int _S63 = int(4) * block_0.y + (i_9 >> int(2));
        int _S64 = ((ntImage.height));
        int _S65 = min(_S63, _S64 - int(1));
        int _S66 = ((ntImage.first));
        int _S67 = ((ntImage.row));
        uint word_0 = (ntLoad((_S66 + _S65 * _S67 + _S62)));
        texels_6[i_9] = float4(uint4(word_0 & 255U, (word_0 >> 8U) & 255U, (word_0 >> 16U) & 255U, word_0 >> 24U));
        i_9 = i_9 + int(1);
    }
    int _S68 = ((ntImage.firstBlock));
    int _S69 = block_0.y;
    int _S70 = ((ntImage.rowOfBlocks));
    int _S71 = _S68 + _S69 * _S70;
    int _S72 = ((ntImage.form));
    if(_S72 == int(4))
    {
        i_9 = int(2);
    }
    else
    {
        i_9 = int(4);
    }
    int at_0 = _S71 + _S54 * i_9;
    int _S73 = ((ntImage.form));
    if(_S73 == int(7))
    {
        uint4 words_6 = ntBlockOfBC7(texels_6);
        ntStore((at_0), (words_6.x));
        ntStore((at_0 + int(1)), (words_6.y));
        ntStore((at_0 + int(2)), (words_6.z));
        ntStore((at_0 + int(3)), (words_6.w));
        return;
    }
    int _S74 = ((ntImage.form));
    bool two_1 = _S74 == int(5);
    if(two_1)
    {
        i_9 = int(2);
    }
    else
    {
        i_9 = int(1);
    }
    int part_0 = int(0);
    while(part_0 < i_9)
    {
        float4  _S75[int(16)] = texels_6;
        int _S76;
        if(two_1)
        {
            _S76 = part_0;
        }
        else
        {
            int _S77 = ((ntImage.channel));
            _S76 = _S77;
        }
        uint2 words_7 = ntBlockOfChannel(_S75, _S76);
        int _S78 = at_0 + int(2) * part_0;
        ntStore((_S78), (words_7.x));
        ntStore((_S78 + int(1)), (words_7.y));
        part_0 = part_0 + int(1);
    }
    return;
}
