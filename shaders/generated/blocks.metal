// Generated from blocks.slang; do not edit.

void ntMainAxis(const array<float4, int(16)> thread* texels_0, float4 thread* low_0, float4 thread* high_0)
{
    float4 _S1 = float4(0.0f, 0.0f, 0.0f, 0.0f);
    int i_0 = int(0);
    float4 mean_0 = _S1;
    while(i_0 < int(16))
    {
        float4 mean_1 = mean_0 + (*texels_0)[i_0] / float4(16.0f) ;
        i_0 = i_0 + int(1);
        mean_0 = mean_1;
    }
    int j_0 = int(0);
    float4 red_0 = _S1;
    float4 green_0 = _S1;
    float4 blue_0 = _S1;
    float4 alpha_0 = _S1;
    while(j_0 < int(16))
    {
        float4 off_0 = (*texels_0)[j_0] - mean_0;
        float4 red_1 = red_0 + float4(off_0.x)  * off_0;
        float4 green_1 = green_0 + float4(off_0.y)  * off_0;
        float4 blue_1 = blue_0 + float4(off_0.z)  * off_0;
        float4 alpha_1 = alpha_0 + float4(off_0.w)  * off_0;
        j_0 = j_0 + int(1);
        red_0 = red_1;
        green_0 = green_1;
        blue_0 = blue_1;
        alpha_0 = alpha_1;
    }
    float most_0 = red_0.x;
    float _S2 = green_0.y;
    float4 axis_0;
    float most_1;
    if(_S2 > most_0)
    {
        most_1 = _S2;
        axis_0 = green_0;
    }
    else
    {
        most_1 = most_0;
        axis_0 = red_0;
    }
    float _S3 = blue_0.z;
    if(_S3 > most_1)
    {
        most_1 = _S3;
        axis_0 = blue_0;
    }
    if((alpha_0.w) > most_1)
    {
        axis_0 = alpha_0;
    }
    int round_0 = int(0);
    while(round_0 < int(4))
    {
        float _S4 = dot(red_0, axis_0);
        float _S5 = dot(green_0, axis_0);
        float _S6 = dot(blue_0, axis_0);
        float _S7 = dot(alpha_0, axis_0);
        float4 axis_1 = float4(_S4, _S5, _S6, _S7) / float4(max(max(max(abs(_S4), abs(_S5)), max(abs(_S6), abs(_S7))), 9.99999997475242708e-07f)) ;
        round_0 = round_0 + int(1);
        axis_0 = axis_1;
    }
    float _S8 = max(dot(axis_0, axis_0), 9.99999997475242708e-07f);
    float least_0 = 0.0f;
    float furthest_0 = 0.0f;
    int k_0 = int(0);
    while(k_0 < int(16))
    {
        float place_0 = dot((*texels_0)[k_0] - mean_0, axis_0) / _S8;
        float _S9 = min(least_0, place_0);
        float _S10 = max(furthest_0, place_0);
        int _S11 = k_0 + int(1);
        least_0 = _S9;
        furthest_0 = _S10;
        k_0 = _S11;
    }
    float4 _S12 = float4(0.0f) ;
    float4 _S13 = float4(255.0f) ;
    *low_0 = clamp(mean_0 + axis_0 * float4(least_0) , _S12, _S13);
    *high_0 = clamp(mean_0 + axis_0 * float4(furthest_0) , _S12, _S13);
    return;
}

float4 ntWithBit(float4 value_0, float bit_0)
{
    float4 _S14 = float4(bit_0) ;
    float4 _S15 = float4(0.5f) ;
    return floor(clamp((value_0 - _S14) * _S15 + _S15, float4(0.0f) , float4(127.0f) )) * float4(2.0f)  + _S14;
}

float4 ntEndPoint(float4 value_1, int rounding_0, int alphas_0)
{
    if(rounding_0 == int(2))
    {
        return floor(value_1 + float4(0.5f) );
    }
    if(rounding_0 == int(1))
    {
        float4 code_0 = floor(value_1 * float4(0.49803921580314636f)  + float4(0.5f) );
        return code_0 * float4(2.0f)  + floor(code_0 / float4(64.0f) );
    }
    float4 odd_0 = ntWithBit(value_1, 1.0f);
    float4 even_0 = ntWithBit(value_1, 0.0f);
    float4 offOdd_0 = odd_0 - value_1;
    float4 offEven_0 = even_0 - value_1;
    bool takeOdd_0;
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
    float4 _S16;
    if(takeOdd_0)
    {
        _S16 = odd_0;
    }
    else
    {
        _S16 = even_0;
    }
    return _S16;
}

float ntPlaceOf(int index_0, int last_0)
{
    int _S17 = (index_0 * int(64) + last_0 / int(2)) / last_0;
    return float(_S17);
}

float ntIndicesOf(const array<float4, int(16)> thread* texels_1, float4 low_1, float4 high_1, int last_1, uint2 thread* indices_0)
{
    *indices_0 = uint2(0U, 0U);
    float4 axis_2 = high_1 - low_1;
    float _S18 = float(last_1);
    float _S19 = _S18 / max(dot(axis_2, axis_2), 9.99999997475242708e-07f);
    int i_1 = int(0);
    float total_0 = 0.0f;
    while(i_1 < int(16))
    {
        int index_1 = int(clamp(dot((*texels_1)[i_1] - low_1, axis_2) * _S19 + 0.5f, 0.0f, _S18));
        float4 _S20 = float4(64.0f) ;
        float4 _S21 = low_1 * _S20;
        float _S22 = ntPlaceOf(index_1, last_1);
        float4 off_1 = floor((_S21 + axis_2 * float4(_S22)  + float4(32.0f) ) / _S20) - (*texels_1)[i_1];
        float total_1 = total_0 + dot(off_1, off_1);
        uint bits_0 = uint(index_1) << uint(int(4) * (i_1 & int(7)));
        if(i_1 < int(8))
        {
            (*indices_0).x = ((*indices_0).x) | bits_0;
        }
        else
        {
            (*indices_0).y = ((*indices_0).y) | bits_0;
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

void ntFit(const array<float4, int(16)> thread* texels_2, uint2 indices_2, int last_2, float4 thread* low_2, float4 thread* high_2)
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
        float4 d_1 = d_0 + float4(_S26)  * (*texels_2)[i_3];
        float4 e_1 = e_0 + float4(place_1)  * (*texels_2)[i_3];
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
        float4 _S27 = float4(determinant_0) ;
        float4 _S28 = float4(0.0f) ;
        float4 _S29 = float4(255.0f) ;
        *low_2 = clamp((float4(c_0)  * d_0 - float4(b_0)  * e_0) / _S27, _S28, _S29);
        *high_2 = clamp((float4(a_0)  * e_0 - float4(b_0)  * d_0) / _S27, _S28, _S29);
    }
    return;
}

float ntSearch(const array<float4, int(16)> thread* texels_3, int last_3, int rounding_1, int alphas_1, float4 thread* first_0, float4 thread* second_0, uint2 thread* indices_3)
{
    thread float4 low_3;
    thread float4 high_3;
    ntMainAxis(texels_3, &low_3, &high_3);
    *first_0 = low_3;
    *second_0 = high_3;
    *indices_3 = uint2(0U, 0U);
    float smallest_0 = 1.00000001504746622e+30f;
    int fit_0 = int(0);
    while(fit_0 <= int(3))
    {
        float4 e0_0 = ntEndPoint(low_3, rounding_1, alphas_1);
        float4 e1_0 = ntEndPoint(high_3, rounding_1, alphas_1);
        thread uint2 found_0;
        float _S30 = ntIndicesOf(texels_3, e0_0, e1_0, last_3, &found_0);
        if(_S30 < smallest_0)
        {
            *first_0 = e0_0;
            *second_0 = e1_0;
            *indices_3 = found_0;
            smallest_0 = _S30;
        }
        ntFit(texels_3, found_0, last_3, &low_3, &high_3);
        fit_0 = fit_0 + int(1);
    }
    if((ntIndexAt(*indices_3, int(0))) > (last_3 / int(2)))
    {
        float4 swapped_0 = *first_0;
        *first_0 = *second_0;
        *second_0 = swapped_0;
        uint2 _S31;
        if(last_3 == int(15))
        {
            _S31 = uint2(4294967295U, 4294967295U);
        }
        else
        {
            _S31 = uint2(858993459U, 858993459U);
        }
        *indices_3 = _S31 - *indices_3;
    }
    return smallest_0;
}

uint ntTwoBits(uint2 indices_4)
{
    uint _S32 = uint(ntIndexAt(indices_4, int(0)));
    int i_4 = int(1);
    uint bits_1 = _S32;
    while(i_4 < int(16))
    {
        uint bits_2 = bits_1 | (uint(ntIndexAt(indices_4, i_4)) << uint(int(2) * i_4 - int(1)));
        i_4 = i_4 + int(1);
        bits_1 = bits_2;
    }
    return bits_1;
}

uint4 ntWordsOfMode5(float4 first_1, float4 second_1, uint2 indices_5, float2 alphas_2, uint2 alphaIndices_0)
{
    uint4 _S33 = uint4(1U) ;
    uint4 p_0 = uint4(first_1) >> _S33;
    uint4 q_0 = uint4(second_1) >> _S33;
    uint2 _S34 = uint2(alphas_2);
    uint colours_0 = ntTwoBits(indices_5);
    thread uint4 words_0;
    uint _S35 = q_0.y;
    words_0.x = (((32U | ((p_0.x) << 8U)) | ((q_0.x) << 15U)) | ((p_0.y) << 22U)) | (_S35 << 29U);
    uint _S36 = _S34.y;
    words_0.y = ((((_S35 >> 3U) | ((p_0.z) << 4U)) | ((q_0.z) << 11U)) | ((_S34.x) << 18U)) | (_S36 << 26U);
    words_0.z = (_S36 >> 6U) | (colours_0 << 2U);
    words_0.w = (colours_0 >> 30U) | ((ntTwoBits(alphaIndices_0)) << 1U);
    return words_0;
}

uint4 ntWordsOfMode6(float4 first_2, float4 second_2, uint2 indices_6)
{
    uint4 _S37 = uint4(first_2);
    uint4 _S38 = uint4(second_2);
    uint4 _S39 = uint4(1U) ;
    uint4 p_1 = _S37 >> _S39;
    uint4 q_1 = _S38 >> _S39;
    thread uint4 words_1;
    uint _S40 = q_1.y;
    words_1.x = (((64U | ((p_1.x) << 7U)) | ((q_1.x) << 14U)) | ((p_1.y) << 21U)) | (_S40 << 28U);
    words_1.y = (((((_S40 >> 4U) | ((p_1.z) << 3U)) | ((q_1.z) << 10U)) | ((p_1.w) << 17U)) | ((q_1.w) << 24U)) | (((_S37.x) & 1U) << 31U);
    uint _S41 = indices_6.x;
    words_1.z = (((_S38.x) & 1U) | ((_S41 & 7U) << 1U)) | (_S41 & 4294967280U);
    words_1.w = indices_6.y;
    return words_1;
}

uint4 ntBlockOfBC7(const array<float4, int(16)> thread* texels_4)
{
    thread array<float4, int(16)> colours_1;
    thread array<float4, int(16)> alphas_3;
    float least_1 = 255.0f;
    float most_2 = 0.0f;
    int i_5 = int(0);
    while(i_5 < int(16))
    {
        float alpha_2 = (*texels_4)[i_5].w;
        float _S42 = min(least_1, alpha_2);
        float _S43 = max(most_2, alpha_2);
        colours_1[i_5] = float4((*texels_4)[i_5].xyz, 0.0f);
        alphas_3[i_5] = float4(0.0f, 0.0f, 0.0f, alpha_2);
        int _S44 = i_5 + int(1);
        least_1 = _S42;
        most_2 = _S43;
        i_5 = _S44;
    }
    thread float4 e0_1;
    thread float4 e1_1;
    thread float4 c0_0;
    thread float4 c1_0;
    thread float4 a0_0;
    thread float4 a1_0;
    thread uint2 indices_7;
    thread uint2 ofColours_0;
    thread uint2 ofAlphas_0;
    if(least_1 >= 255.0f)
    {
        i_5 = int(1);
    }
    else
    {
        if(most_2 <= 0.0f)
        {
            i_5 = int(0);
        }
        else
        {
            i_5 = int(2);
        }
    }
    float _S45 = ntSearch(texels_4, int(15), int(0), i_5, &e0_1, &e1_1, &indices_7);
    thread array<float4, int(16)> _S46 = colours_1;
    float _S47 = ntSearch(&_S46, int(3), int(1), int(0), &c0_0, &c1_0, &ofColours_0);
    thread array<float4, int(16)> _S48 = alphas_3;
    float _S49 = ntSearch(&_S48, int(3), int(2), int(0), &a0_0, &a1_0, &ofAlphas_0);
    if((_S47 + _S49) < _S45)
    {
        return ntWordsOfMode5(c0_0, c1_0, ofColours_0, float2(a0_0.w, a1_0.w), ofAlphas_0);
    }
    return ntWordsOfMode6(e0_1, e1_1, indices_7);
}

float ntChannel(float4 texel_0, int channel_0)
{
    float _S50;
    if(channel_0 == int(0))
    {
        _S50 = texel_0.x;
    }
    else
    {
        if(channel_0 == int(1))
        {
            _S50 = texel_0.y;
        }
        else
        {
            if(channel_0 == int(2))
            {
                _S50 = texel_0.z;
            }
            else
            {
                _S50 = texel_0.w;
            }
        }
    }
    return _S50;
}

uint2 ntBlockOfBC4(const array<float, int(16)> thread* values_0)
{
    float low_4 = 255.0f;
    float high_4 = 0.0f;
    int i_6 = int(0);
    while(i_6 < int(16))
    {
        float _S51 = min(low_4, (*values_0)[i_6]);
        float _S52 = max(high_4, (*values_0)[i_6]);
        int _S53 = i_6 + int(1);
        low_4 = _S51;
        high_4 = _S52;
        i_6 = _S53;
    }
    uint2 words_2 = uint2(uint(high_4) | (uint(low_4) << 8U), 0U);
    if((high_4 - low_4) < 0.5f)
    {
        return words_2;
    }
    float smallest_1 = 1.00000001504746622e+30f;
    uint2 words_3 = words_2;
    int fit_1 = int(0);
    while(fit_1 <= int(2))
    {
        thread uint2 found_1 = uint2(uint(high_4) | (uint(low_4) << 8U), 0U);
        int k_1 = int(0);
        float error_0 = 0.0f;
        float a_2 = 0.0f;
        float b_2 = 0.0f;
        float c_2 = 0.0f;
        float d_2 = 0.0f;
        float e_2 = 0.0f;
        while(k_1 < int(16))
        {
            int step_0 = int(clamp((high_4 - (*values_0)[k_1]) / (high_4 - low_4) * 7.0f + 0.5f, 0.0f, 7.0f));
            float place_2 = float(step_0) / 7.0f;
            float off_2 = high_4 + (low_4 - high_4) * place_2 - (*values_0)[k_1];
            float error_1 = error_0 + off_2 * off_2;
            float _S54 = 1.0f - place_2;
            float a_3 = a_2 + _S54 * _S54;
            float b_3 = b_2 + _S54 * place_2;
            float c_3 = c_2 + place_2 * place_2;
            float d_3 = d_2 + _S54 * (*values_0)[k_1];
            float e_3 = e_2 + place_2 * (*values_0)[k_1];
            uint index_2;
            if(step_0 == int(0))
            {
                index_2 = 0U;
            }
            else
            {
                if(step_0 == int(7))
                {
                    index_2 = 1U;
                }
                else
                {
                    index_2 = uint(step_0 + int(1));
                }
            }
            int shift_0 = int(16) + int(3) * k_1;
            if(shift_0 < int(32))
            {
                found_1.x = (found_1.x) | (index_2 << uint(shift_0));
            }
            if(shift_0 >= int(32))
            {
                found_1.y = (found_1.y) | (index_2 << uint(shift_0 - int(32)));
            }
            else
            {
                if(shift_0 > int(29))
                {
                    found_1.y = (found_1.y) | (index_2 >> uint(int(32) - shift_0));
                }
            }
            k_1 = k_1 + int(1);
            error_0 = error_1;
            a_2 = a_3;
            b_2 = b_3;
            c_2 = c_3;
            d_2 = d_3;
            e_2 = e_3;
        }
        uint2 words_4;
        if(error_0 < smallest_1)
        {
            smallest_1 = error_0;
            words_4 = found_1;
        }
        else
        {
            words_4 = words_3;
        }
        float determinant_1 = a_2 * c_2 - b_2 * b_2;
        if(determinant_1 < 0.00100000004749745f)
        {
            words_3 = words_4;
            break;
        }
        float high_5 = floor(clamp((c_2 * d_2 - b_2 * e_2) / determinant_1, 0.0f, 255.0f) + 0.5f);
        float low_5 = floor(clamp((a_2 * e_2 - b_2 * d_2) / determinant_1, 0.0f, 255.0f) + 0.5f);
        if((high_5 - low_5) < 0.5f)
        {
            words_3 = words_4;
            break;
        }
        int _S55 = fit_1 + int(1);
        high_4 = high_5;
        low_4 = low_5;
        words_3 = words_4;
        fit_1 = _S55;
    }
    return words_3;
}

uint2 ntBlockOfChannel(const array<float4, int(16)> thread* texels_5, int channel_1)
{
    thread array<float, int(16)> values_1;
    int i_7 = int(0);
    while(i_7 < int(16))
    {
        values_1[i_7] = ntChannel((*texels_5)[i_7], channel_1);
        i_7 = i_7 + int(1);
    }
    thread array<float, int(16)> _S56 = values_1;
    uint2 _S57 = ntBlockOfBC4(&_S56);
    return _S57;
}

void ntEncodeBlock(int2 block_0)
{
    int _S58 = block_0.x;
    int _S59 = int(4) * _S58;
    int _S60 = ((ntImage.width));
    bool _S61;
    if(_S59 >= _S60)
    {
        _S61 = true;
    }
    else
    {
        int _S62 = int(4) * block_0.y;
        int _S63 = ((ntImage.height));
        _S61 = _S62 >= _S63;
    }
    if(_S61)
    {
        return;
    }
    thread array<float4, int(16)> texels_6;
    int i_8 = int(0);
    while(i_8 < int(16))
    {
        int _S64 = _S59 + (i_8 & int(3));
        int _S65 = ((ntImage.width));
        int _S66 = min(_S64, _S65 - int(1));
        int _S67 = int(4) * block_0.y + (i_8 >> 2U);
        int _S68 = ((ntImage.height));
        int _S69 = min(_S67, _S68 - int(1));
        int _S70 = ((ntImage.first));
        int _S71 = ((ntImage.row));
        uint word_0 = (ntLoad((_S70 + _S69 * _S71 + _S66)));
        texels_6[i_8] = float4(uint4(word_0 & 255U, (word_0 >> 8U) & 255U, (word_0 >> 16U) & 255U, word_0 >> 24U));
        i_8 = i_8 + int(1);
    }
    int _S72 = ((ntImage.firstBlock));
    int _S73 = block_0.y;
    int _S74 = ((ntImage.rowOfBlocks));
    int _S75 = _S72 + _S73 * _S74;
    int _S76 = ((ntImage.form));
    if(_S76 == int(4))
    {
        i_8 = int(2);
    }
    else
    {
        i_8 = int(4);
    }
    int at_0 = _S75 + _S58 * i_8;
    int _S77 = ((ntImage.form));
    if(_S77 == int(7))
    {
        thread array<float4, int(16)> _S78 = texels_6;
        uint4 _S79 = ntBlockOfBC7(&_S78);
        ntStore((at_0), (_S79.x));
        ntStore((at_0 + int(1)), (_S79.y));
        ntStore((at_0 + int(2)), (_S79.z));
        ntStore((at_0 + int(3)), (_S79.w));
        return;
    }
    int _S80 = ((ntImage.form));
    bool two_0 = _S80 == int(5);
    if(two_0)
    {
        i_8 = int(2);
    }
    else
    {
        i_8 = int(1);
    }
    int part_0 = int(0);
    while(part_0 < i_8)
    {
        array<float4, int(16)> _S81 = texels_6;
        int _S82;
        if(two_0)
        {
            _S82 = part_0;
        }
        else
        {
            int _S83 = ((ntImage.channel));
            _S82 = _S83;
        }
        thread array<float4, int(16)> _S84 = _S81;
        uint2 _S85 = ntBlockOfChannel(&_S84, _S82);
        int _S86 = at_0 + int(2) * part_0;
        ntStore((_S86), (_S85.x));
        ntStore((_S86 + int(1)), (_S85.y));
        part_0 = part_0 + int(1);
    }
    return;
}
