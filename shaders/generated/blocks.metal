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

float4 ntEndPoint(float4 value_1, int alphas_0)
{
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

float ntPlaceOf(int index_0)
{
    return float((index_0 * int(64) + int(7)) / int(15));
}

float ntIndicesOf(const array<float4, int(16)> thread* texels_1, float4 low_1, float4 high_1, uint2 thread* indices_0)
{
    *indices_0 = uint2(0U, 0U);
    float4 axis_2 = high_1 - low_1;
    float _S17 = 15.0f / max(dot(axis_2, axis_2), 9.99999997475242708e-07f);
    int i_1 = int(0);
    float total_0 = 0.0f;
    while(i_1 < int(16))
    {
        int index_1 = int(clamp(dot((*texels_1)[i_1] - low_1, axis_2) * _S17 + 0.5f, 0.0f, 15.0f));
        float4 _S18 = float4(64.0f) ;
        float4 off_1 = floor((low_1 * _S18 + axis_2 * float4(ntPlaceOf(index_1))  + float4(32.0f) ) / _S18) - (*texels_1)[i_1];
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
    uint _S19;
    if(i_2 < int(8))
    {
        _S19 = indices_1.x;
    }
    else
    {
        _S19 = indices_1.y;
    }
    return int(_S19 >> uint(int(4) * (i_2 & int(7)))) & int(15);
}

void ntFit(const array<float4, int(16)> thread* texels_2, uint2 indices_2, float4 thread* low_2, float4 thread* high_2)
{
    float4 _S20 = float4(0.0f, 0.0f, 0.0f, 0.0f);
    int i_3 = int(0);
    float a_0 = 0.0f;
    float b_0 = 0.0f;
    float c_0 = 0.0f;
    float4 d_0 = _S20;
    float4 e_0 = _S20;
    while(i_3 < int(16))
    {
        float place_1 = ntPlaceOf(ntIndexAt(indices_2, i_3)) / 64.0f;
        float _S21 = 1.0f - place_1;
        float a_1 = a_0 + _S21 * _S21;
        float b_1 = b_0 + _S21 * place_1;
        float c_1 = c_0 + place_1 * place_1;
        float4 d_1 = d_0 + float4(_S21)  * (*texels_2)[i_3];
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
        float4 _S22 = float4(determinant_0) ;
        float4 _S23 = float4(0.0f) ;
        float4 _S24 = float4(255.0f) ;
        *low_2 = clamp((float4(c_0)  * d_0 - float4(b_0)  * e_0) / _S22, _S23, _S24);
        *high_2 = clamp((float4(a_0)  * e_0 - float4(b_0)  * d_0) / _S22, _S23, _S24);
    }
    return;
}

uint4 ntWordsOfBC7(float4 first_0, float4 second_0, uint2 chosen_0)
{
    float4 low_3;
    float4 high_3;
    uint2 indices_3;
    if(((chosen_0.x) & 8U) != 0U)
    {
        uint2 _S25 = ~chosen_0;
        low_3 = second_0;
        high_3 = first_0;
        indices_3 = _S25;
    }
    else
    {
        low_3 = first_0;
        high_3 = second_0;
        indices_3 = chosen_0;
    }
    uint4 _S26 = uint4(low_3);
    uint4 _S27 = uint4(high_3);
    uint4 _S28 = uint4(1U) ;
    uint4 p_0 = _S26 >> _S28;
    uint4 q_0 = _S27 >> _S28;
    thread uint4 words_0;
    uint _S29 = q_0.y;
    words_0.x = (((64U | ((p_0.x) << 7U)) | ((q_0.x) << 14U)) | ((p_0.y) << 21U)) | (_S29 << 28U);
    words_0.y = (((((_S29 >> 4U) | ((p_0.z) << 3U)) | ((q_0.z) << 10U)) | ((p_0.w) << 17U)) | ((q_0.w) << 24U)) | (((_S26.x) & 1U) << 31U);
    uint _S30 = indices_3.x;
    words_0.z = (((_S27.x) & 1U) | ((_S30 & 7U) << 1U)) | (_S30 & 4294967280U);
    words_0.w = indices_3.y;
    return words_0;
}

uint4 ntBlockOfBC7(const array<float4, int(16)> thread* texels_3)
{
    float least_1 = 255.0f;
    float most_2 = 0.0f;
    int i_4 = int(0);
    while(i_4 < int(16))
    {
        float _S31 = (*texels_3)[i_4].w;
        float _S32 = min(least_1, _S31);
        float _S33 = max(most_2, _S31);
        int _S34 = i_4 + int(1);
        least_1 = _S32;
        most_2 = _S33;
        i_4 = _S34;
    }
    if(least_1 >= 255.0f)
    {
        i_4 = int(1);
    }
    else
    {
        if(most_2 <= 0.0f)
        {
            i_4 = int(0);
        }
        else
        {
            i_4 = int(2);
        }
    }
    thread float4 low_4;
    thread float4 high_4;
    ntMainAxis(texels_3, &low_4, &high_4);
    uint2 _S35 = uint2(0U, 0U);
    float smallest_0 = 1.00000001504746622e+30f;
    float4 bestLow_0 = low_4;
    float4 bestHigh_0 = high_4;
    uint2 best_0 = _S35;
    int fit_0 = int(0);
    while(fit_0 <= int(3))
    {
        float4 e0_0 = ntEndPoint(low_4, i_4);
        float4 e1_0 = ntEndPoint(high_4, i_4);
        thread uint2 indices_4;
        float _S36 = ntIndicesOf(texels_3, e0_0, e1_0, &indices_4);
        if(_S36 < smallest_0)
        {
            smallest_0 = _S36;
            bestLow_0 = e0_0;
            bestHigh_0 = e1_0;
            best_0 = indices_4;
        }
        ntFit(texels_3, indices_4, &low_4, &high_4);
        fit_0 = fit_0 + int(1);
    }
    return ntWordsOfBC7(bestLow_0, bestHigh_0, best_0);
}

float ntChannel(float4 texel_0, int channel_0)
{
    float _S37;
    if(channel_0 == int(0))
    {
        _S37 = texel_0.x;
    }
    else
    {
        if(channel_0 == int(1))
        {
            _S37 = texel_0.y;
        }
        else
        {
            if(channel_0 == int(2))
            {
                _S37 = texel_0.z;
            }
            else
            {
                _S37 = texel_0.w;
            }
        }
    }
    return _S37;
}

uint2 ntBlockOfBC4(const array<float, int(16)> thread* values_0)
{
    float low_5 = 255.0f;
    float high_5 = 0.0f;
    int i_5 = int(0);
    while(i_5 < int(16))
    {
        float _S38 = min(low_5, (*values_0)[i_5]);
        float _S39 = max(high_5, (*values_0)[i_5]);
        int _S40 = i_5 + int(1);
        low_5 = _S38;
        high_5 = _S39;
        i_5 = _S40;
    }
    uint2 words_1 = uint2(uint(high_5) | (uint(low_5) << 8U), 0U);
    if((high_5 - low_5) < 0.5f)
    {
        return words_1;
    }
    float smallest_1 = 1.00000001504746622e+30f;
    uint2 words_2 = words_1;
    int fit_1 = int(0);
    while(fit_1 <= int(2))
    {
        thread uint2 found_0 = uint2(uint(high_5) | (uint(low_5) << 8U), 0U);
        int k_1 = int(0);
        float error_0 = 0.0f;
        float a_2 = 0.0f;
        float b_2 = 0.0f;
        float c_2 = 0.0f;
        float d_2 = 0.0f;
        float e_2 = 0.0f;
        while(k_1 < int(16))
        {
            int step_0 = int(clamp((high_5 - (*values_0)[k_1]) / (high_5 - low_5) * 7.0f + 0.5f, 0.0f, 7.0f));
            float place_2 = float(step_0) / 7.0f;
            float off_2 = high_5 + (low_5 - high_5) * place_2 - (*values_0)[k_1];
            float error_1 = error_0 + off_2 * off_2;
            float _S41 = 1.0f - place_2;
            float a_3 = a_2 + _S41 * _S41;
            float b_3 = b_2 + _S41 * place_2;
            float c_3 = c_2 + place_2 * place_2;
            float d_3 = d_2 + _S41 * (*values_0)[k_1];
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
                found_0.x = (found_0.x) | (index_2 << uint(shift_0));
            }
            if(shift_0 >= int(32))
            {
                found_0.y = (found_0.y) | (index_2 << uint(shift_0 - int(32)));
            }
            else
            {
                if(shift_0 > int(29))
                {
                    found_0.y = (found_0.y) | (index_2 >> uint(int(32) - shift_0));
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
        uint2 words_3;
        if(error_0 < smallest_1)
        {
            smallest_1 = error_0;
            words_3 = found_0;
        }
        else
        {
            words_3 = words_2;
        }
        float determinant_1 = a_2 * c_2 - b_2 * b_2;
        if(determinant_1 < 0.00100000004749745f)
        {
            words_2 = words_3;
            break;
        }
        float high_6 = floor(clamp((c_2 * d_2 - b_2 * e_2) / determinant_1, 0.0f, 255.0f) + 0.5f);
        float low_6 = floor(clamp((a_2 * e_2 - b_2 * d_2) / determinant_1, 0.0f, 255.0f) + 0.5f);
        if((high_6 - low_6) < 0.5f)
        {
            words_2 = words_3;
            break;
        }
        int _S42 = fit_1 + int(1);
        high_5 = high_6;
        low_5 = low_6;
        words_2 = words_3;
        fit_1 = _S42;
    }
    return words_2;
}

uint2 ntBlockOfChannel(const array<float4, int(16)> thread* texels_4, int channel_1)
{
    thread array<float, int(16)> values_1;
    int i_6 = int(0);
    while(i_6 < int(16))
    {
        values_1[i_6] = ntChannel((*texels_4)[i_6], channel_1);
        i_6 = i_6 + int(1);
    }
    thread array<float, int(16)> _S43 = values_1;
    uint2 _S44 = ntBlockOfBC4(&_S43);
    return _S44;
}

void ntEncodeBlock(int2 block_0)
{
    int _S45 = block_0.x;
    int _S46 = int(4) * _S45;
    int _S47 = ((ntImage.width));
    bool _S48;
    if(_S46 >= _S47)
    {
        _S48 = true;
    }
    else
    {
        int _S49 = int(4) * block_0.y;
        int _S50 = ((ntImage.height));
        _S48 = _S49 >= _S50;
    }
    if(_S48)
    {
        return;
    }
    thread array<float4, int(16)> texels_5;
    int i_7 = int(0);
    while(i_7 < int(16))
    {
        int _S51 = _S46 + (i_7 & int(3));
        int _S52 = ((ntImage.width));
        int _S53 = min(_S51, _S52 - int(1));
        int _S54 = int(4) * block_0.y + (i_7 >> 2U);
        int _S55 = ((ntImage.height));
        int _S56 = min(_S54, _S55 - int(1));
        int _S57 = ((ntImage.first));
        int _S58 = ((ntImage.row));
        uint word_0 = (ntLoad((_S57 + _S56 * _S58 + _S53)));
        texels_5[i_7] = float4(uint4(word_0 & 255U, (word_0 >> 8U) & 255U, (word_0 >> 16U) & 255U, word_0 >> 24U));
        i_7 = i_7 + int(1);
    }
    int _S59 = ((ntImage.firstBlock));
    int _S60 = block_0.y;
    int _S61 = ((ntImage.rowOfBlocks));
    int _S62 = _S59 + _S60 * _S61;
    int _S63 = ((ntImage.form));
    if(_S63 == int(4))
    {
        i_7 = int(2);
    }
    else
    {
        i_7 = int(4);
    }
    int at_0 = _S62 + _S45 * i_7;
    int _S64 = ((ntImage.form));
    if(_S64 == int(7))
    {
        thread array<float4, int(16)> _S65 = texels_5;
        uint4 _S66 = ntBlockOfBC7(&_S65);
        ntStore((at_0), (_S66.x));
        ntStore((at_0 + int(1)), (_S66.y));
        ntStore((at_0 + int(2)), (_S66.z));
        ntStore((at_0 + int(3)), (_S66.w));
        return;
    }
    int _S67 = ((ntImage.form));
    bool two_0 = _S67 == int(5);
    if(two_0)
    {
        i_7 = int(2);
    }
    else
    {
        i_7 = int(1);
    }
    int part_0 = int(0);
    while(part_0 < i_7)
    {
        array<float4, int(16)> _S68 = texels_5;
        int _S69;
        if(two_0)
        {
            _S69 = part_0;
        }
        else
        {
            int _S70 = ((ntImage.channel));
            _S69 = _S70;
        }
        thread array<float4, int(16)> _S71 = _S68;
        uint2 _S72 = ntBlockOfChannel(&_S71, _S69);
        int _S73 = at_0 + int(2) * part_0;
        ntStore((_S73), (_S72.x));
        ntStore((_S73 + int(1)), (_S72.y));
        part_0 = part_0 + int(1);
    }
    return;
}
