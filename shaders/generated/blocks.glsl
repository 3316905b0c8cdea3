// Generated from blocks.slang; do not edit.

void ntMainAxis(vec4  texels_0[16], out vec4 low_0, out vec4 high_0)
{
    const vec4 _S1 = vec4(0.0, 0.0, 0.0, 0.0);
    int i_0 = 0;
    vec4 mean_0 = _S1;
    while(i_0 < 16)
    {
        vec4 mean_1 = mean_0 + texels_0[i_0] / 16.0;
        i_0 = i_0 + 1;
        mean_0 = mean_1;
    }
    int j_0 = 0;
    vec4 red_0 = _S1;
    vec4 green_0 = _S1;
    vec4 blue_0 = _S1;
    vec4 alpha_0 = _S1;
    while(j_0 < 16)
    {
        vec4 off_0 = texels_0[j_0] - mean_0;
        vec4 red_1 = red_0 + off_0.x * off_0;
        vec4 green_1 = green_0 + off_0.y * off_0;
        vec4 blue_1 = blue_0 + off_0.z * off_0;
        vec4 alpha_1 = alpha_0 + off_0.w * off_0;
        j_0 = j_0 + 1;
        red_0 = red_1;
        green_0 = green_1;
        blue_0 = blue_1;
        alpha_0 = alpha_1;
    }
    float most_0 = red_0.x;
    float _S2 = green_0.y;
    vec4 axis_0;
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
    int round_0 = 0;
    while(round_0 < 4)
    {
        float _S4 = dot(red_0, axis_0);
        float _S5 = dot(green_0, axis_0);
        float _S6 = dot(blue_0, axis_0);
        float _S7 = dot(alpha_0, axis_0);
        vec4 axis_1 = vec4(_S4, _S5, _S6, _S7) / max(max(max(abs(_S4), abs(_S5)), max(abs(_S6), abs(_S7))), 9.99999997475242708e-07);
        round_0 = round_0 + 1;
        axis_0 = axis_1;
    }
    float _S8 = max(dot(axis_0, axis_0), 9.99999997475242708e-07);
    float least_0 = 0.0;
    float furthest_0 = 0.0;
    int k_0 = 0;
    while(k_0 < 16)
    {
        float place_0 = dot(texels_0[k_0] - mean_0, axis_0) / _S8;
        float _S9 = min(least_0, place_0);
        float _S10 = max(furthest_0, place_0);
        int _S11 = k_0 + 1;
        least_0 = _S9;
        furthest_0 = _S10;
        k_0 = _S11;
    }
    const vec4 _S12 = vec4(0.0);
    const vec4 _S13 = vec4(255.0);
    low_0 = clamp(mean_0 + axis_0 * least_0, _S12, _S13);
    high_0 = clamp(mean_0 + axis_0 * furthest_0, _S12, _S13);
    return;
}

vec4 ntWithBit(vec4 value_0, float bit_0)
{
    return floor(clamp((value_0 - bit_0) * 0.5 + 0.5, vec4(0.0), vec4(127.0))) * 2.0 + bit_0;
}

vec4 ntEndPoint(vec4 value_1, int rounding_0, int alphas_0)
{
    if(rounding_0 == 2)
    {
        return floor(value_1 + 0.5);
    }
    if(rounding_0 == 1)
    {
        vec4 code_0 = floor(value_1 * 0.49803921580314636 + 0.5);
        return code_0 * 2.0 + floor(code_0 / 64.0);
    }
    vec4 odd_0 = ntWithBit(value_1, 1.0);
    vec4 even_0 = ntWithBit(value_1, 0.0);
    vec4 offOdd_0 = odd_0 - value_1;
    vec4 offEven_0 = even_0 - value_1;
    bool takeOdd_0;
    if(alphas_0 == 1)
    {
        takeOdd_0 = true;
    }
    else
    {
        if(alphas_0 == 2)
        {
            takeOdd_0 = (dot(offOdd_0, offOdd_0)) < (dot(offEven_0, offEven_0));
        }
        else
        {
            takeOdd_0 = false;
        }
    }
    vec4 _S14;
    if(takeOdd_0)
    {
        _S14 = odd_0;
    }
    else
    {
        _S14 = even_0;
    }
    return _S14;
}

float ntPlaceOf(int index_0, int last_0)
{
    int _S15 = (index_0 * 64 + last_0 / 2) / last_0;
    return float(_S15);
}

float ntIndicesOf(vec4  texels_1[16], vec4 low_1, vec4 high_1, int last_1, out uvec2 indices_0)
{
    indices_0 = uvec2(0U, 0U);
    vec4 axis_2 = high_1 - low_1;
    float _S16 = float(last_1);
    float _S17 = _S16 / max(dot(axis_2, axis_2), 9.99999997475242708e-07);
    int i_1 = 0;
    float total_0 = 0.0;
    while(i_1 < 16)
    {
        int index_1 = int(clamp(dot(texels_1[i_1] - low_1, axis_2) * _S17 + 0.5, 0.0, _S16));
        vec4 _S18 = low_1 * 64.0;
        float _S19 = ntPlaceOf(index_1, last_1);
        vec4 off_1 = floor((_S18 + axis_2 * _S19 + 32.0) / 64.0) - texels_1[i_1];
        float total_1 = total_0 + dot(off_1, off_1);
        uint bits_0 = uint(index_1) << uint(4 * (i_1 & 7));
        if(i_1 < 8)
        {
            indices_0[0] = (indices_0[0]) | bits_0;
        }
        else
        {
            indices_0[1] = (indices_0[1]) | bits_0;
        }
        i_1 = i_1 + 1;
        total_0 = total_1;
    }
    return total_0;
}

int ntIndexAt(uvec2 indices_1, int i_2)
{
    uint _S20;
    if(i_2 < 8)
    {
        _S20 = indices_1.x;
    }
    else
    {
        _S20 = indices_1.y;
    }
    return int(_S20 >> uint(4 * (i_2 & 7))) & 15;
}

void ntFit(vec4  texels_2[16], uvec2 indices_2, int last_2, inout vec4 low_2, inout vec4 high_2)
{
    const vec4 _S21 = vec4(0.0, 0.0, 0.0, 0.0);
    int i_3 = 0;
    float a_0 = 0.0;
    float b_0 = 0.0;
    float c_0 = 0.0;
    vec4 d_0 = _S21;
    vec4 e_0 = _S21;
    while(i_3 < 16)
    {
        float _S22 = ntPlaceOf(ntIndexAt(indices_2, i_3), last_2);
        float place_1 = _S22 / 64.0;
        float _S23 = 1.0 - place_1;
        float a_1 = a_0 + _S23 * _S23;
        float b_1 = b_0 + _S23 * place_1;
        float c_1 = c_0 + place_1 * place_1;
        vec4 d_1 = d_0 + _S23 * texels_2[i_3];
        vec4 e_1 = e_0 + place_1 * texels_2[i_3];
        i_3 = i_3 + 1;
        a_0 = a_1;
        b_0 = b_1;
        c_0 = c_1;
        d_0 = d_1;
        e_0 = e_1;
    }
    float determinant_0 = a_0 * c_0 - b_0 * b_0;
    if(determinant_0 > 0.00100000004749745)
    {
        const vec4 _S24 = vec4(0.0);
        const vec4 _S25 = vec4(255.0);
        low_2 = clamp((c_0 * d_0 - b_0 * e_0) / determinant_0, _S24, _S25);
        high_2 = clamp((a_0 * e_0 - b_0 * d_0) / determinant_0, _S24, _S25);
    }
    return;
}

float ntSearch(vec4  texels_3[16], int last_3, int rounding_1, int alphas_1, out vec4 first_0, out vec4 second_0, out uvec2 indices_3)
{
    vec4 low_3;
    vec4 high_3;
    ntMainAxis(texels_3, low_3, high_3);
    first_0 = low_3;
    second_0 = high_3;
    indices_3 = uvec2(0U, 0U);
    float smallest_0 = 1.00000001504746622e+30;
    int fit_0 = 0;
    while(fit_0 <= 3)
    {
        vec4 e0_0 = ntEndPoint(low_3, rounding_1, alphas_1);
        vec4 e1_0 = ntEndPoint(high_3, rounding_1, alphas_1);
        uvec2 found_0;
        float error_0 = ntIndicesOf(texels_3, e0_0, e1_0, last_3, found_0);
        if(error_0 < smallest_0)
        {
            first_0 = e0_0;
            second_0 = e1_0;
            indices_3 = found_0;
            smallest_0 = error_0;
        }
        ntFit(texels_3, found_0, last_3, low_3, high_3);
        fit_0 = fit_0 + 1;
    }
    if((ntIndexAt(indices_3, 0)) > (last_3 / 2))
    {
        vec4 swapped_0 = first_0;
        first_0 = second_0;
        second_0 = swapped_0;
        uvec2 _S26;
        if(last_3 == 15)
        {
            _S26 = uvec2(4294967295U, 4294967295U);
        }
        else
        {
            _S26 = uvec2(858993459U, 858993459U);
        }
        indices_3 = _S26 - indices_3;
    }
    return smallest_0;
}

uint ntTwoBits(uvec2 indices_4)
{
    uint _S27 = uint(ntIndexAt(indices_4, 0));
    int i_4 = 1;
    uint bits_1 = _S27;
    while(i_4 < 16)
    {
        uint bits_2 = bits_1 | (uint(ntIndexAt(indices_4, i_4)) << uint(2 * i_4 - 1));
        i_4 = i_4 + 1;
        bits_1 = bits_2;
    }
    return bits_1;
}

uvec4 ntWordsOfMode5(vec4 first_1, vec4 second_1, uvec2 indices_5, vec2 alphas_2, uvec2 alphaIndices_0)
{
    uvec4 p_0 = uvec4(first_1) >> 1U;
    uvec4 q_0 = uvec4(second_1) >> 1U;
    uvec2 _S28 = uvec2(alphas_2);
    uint colours_0 = ntTwoBits(indices_5);
    uvec4 words_0;
    uint _S29 = q_0.y;
    words_0[0] = (((32U | ((p_0.x) << 8U)) | ((q_0.x) << 15U)) | ((p_0.y) << 22U)) | (_S29 << 29U);
    uint _S30 = _S28.y;
    words_0[1] = ((((_S29 >> 3U) | ((p_0.z) << 4U)) | ((q_0.z) << 11U)) | ((_S28.x) << 18U)) | (_S30 << 26U);
    words_0[2] = (_S30 >> 6U) | (colours_0 << 2U);
    words_0[3] = (colours_0 >> 30U) | ((ntTwoBits(alphaIndices_0)) << 1U);
    return words_0;
}

uvec4 ntWordsOfMode6(vec4 first_2, vec4 second_2, uvec2 indices_6)
{
    uvec4 _S31 = uvec4(first_2);
    uvec4 _S32 = uvec4(second_2);
    uvec4 p_1 = _S31 >> 1U;
    uvec4 q_1 = _S32 >> 1U;
    uvec4 words_1;
    uint _S33 = q_1.y;
    words_1[0] = (((64U | ((p_1.x) << 7U)) | ((q_1.x) << 14U)) | ((p_1.y) << 21U)) | (_S33 << 28U);
    words_1[1] = (((((_S33 >> 4U) | ((p_1.z) << 3U)) | ((q_1.z) << 10U)) | ((p_1.w) << 17U)) | ((q_1.w) << 24U)) | (((_S31.x) & 1U) << 31U);
    uint _S34 = indices_6.x;
    words_1[2] = (((_S32.x) & 1U) | ((_S34 & 7U) << 1U)) | (_S34 & 4294967280U);
    words_1[3] = indices_6.y;
    return words_1;
}

uvec4 ntBlockOfBC7(vec4  texels_4[16])
{
    vec4  colours_1[16];
    vec4  alphas_3[16];
    float least_1 = 255.0;
    float most_2 = 0.0;
    int i_5 = 0;
    while(i_5 < 16)
    {
        float alpha_2 = texels_4[i_5].w;
        float _S35 = min(least_1, alpha_2);
        float _S36 = max(most_2, alpha_2);
        colours_1[i_5] = vec4(texels_4[i_5].xyz, 0.0);
        alphas_3[i_5] = vec4(0.0, 0.0, 0.0, alpha_2);
        int _S37 = i_5 + 1;
        least_1 = _S35;
        most_2 = _S36;
        i_5 = _S37;
    }
    vec4 e0_1;
    vec4 e1_1;
    vec4 c0_0;
    vec4 c1_0;
    vec4 a0_0;
    vec4 a1_0;
    uvec2 indices_7;
    uvec2 ofColours_0;
    uvec2 ofAlphas_0;
    if(least_1 >= 255.0)
    {
        i_5 = 1;
    }
    else
    {
        if(most_2 <= 0.0)
        {
            i_5 = 0;
        }
        else
        {
            i_5 = 2;
        }
    }
    float together_0 = ntSearch(texels_4, 15, 0, i_5, e0_1, e1_1, indices_7);
    float _S38 = ntSearch(colours_1, 3, 1, 0, c0_0, c1_0, ofColours_0);
    float _S39 = ntSearch(alphas_3, 3, 2, 0, a0_0, a1_0, ofAlphas_0);
    if((_S38 + _S39) < together_0)
    {
        return ntWordsOfMode5(c0_0, c1_0, ofColours_0, vec2(a0_0.w, a1_0.w), ofAlphas_0);
    }
    return ntWordsOfMode6(e0_1, e1_1, indices_7);
}

float ntChannel(vec4 texel_0, int channel_0)
{
    float _S40;
    if(channel_0 == 0)
    {
        _S40 = texel_0.x;
    }
    else
    {
        if(channel_0 == 1)
        {
            _S40 = texel_0.y;
        }
        else
        {
            if(channel_0 == 2)
            {
                _S40 = texel_0.z;
            }
            else
            {
                _S40 = texel_0.w;
            }
        }
    }
    return _S40;
}

uvec2 ntBlockOfBC4(float  values_0[16])
{
    float low_4 = 255.0;
    float high_4 = 0.0;
    int i_6 = 0;
    while(i_6 < 16)
    {
        float _S41 = min(low_4, values_0[i_6]);
        float _S42 = max(high_4, values_0[i_6]);
        int _S43 = i_6 + 1;
        low_4 = _S41;
        high_4 = _S42;
        i_6 = _S43;
    }
    uvec2 words_2 = uvec2(uint(high_4) | (uint(low_4) << 8U), 0U);
    if((high_4 - low_4) < 0.5)
    {
        return words_2;
    }
    float smallest_1 = 1.00000001504746622e+30;
    uvec2 words_3 = words_2;
    int fit_1 = 0;
    while(fit_1 <= 2)
    {
        uvec2 found_1 = uvec2(uint(high_4) | (uint(low_4) << 8U), 0U);
        int k_1 = 0;
        float error_1 = 0.0;
        float a_2 = 0.0;
        float b_2 = 0.0;
        float c_2 = 0.0;
        float d_2 = 0.0;
        float e_2 = 0.0;
        while(k_1 < 16)
        {
            int step_0 = int(clamp((high_4 - values_0[k_1]) / (high_4 - low_4) * 7.0 + 0.5, 0.0, 7.0));
            float place_2 = float(step_0) / 7.0;
            float off_2 = high_4 + (low_4 - high_4) * place_2 - values_0[k_1];
            float error_2 = error_1 + off_2 * off_2;
            float _S44 = 1.0 - place_2;
            float a_3 = a_2 + _S44 * _S44;
            float b_3 = b_2 + _S44 * place_2;
            float c_3 = c_2 + place_2 * place_2;
            float d_3 = d_2 + _S44 * values_0[k_1];
            float e_3 = e_2 + place_2 * values_0[k_1];
            uint index_2;
            if(step_0 == 0)
            {
                index_2 = 0U;
            }
            else
            {
                if(step_0 == 7)
                {
                    index_2 = 1U;
                }
                else
                {
                    index_2 = uint(step_0 + 1);
                }
            }
            int shift_0 = 16 + 3 * k_1;
            if(shift_0 < 32)
            {
                found_1[0] = (found_1[0]) | (index_2 << uint(shift_0));
            }
            if(shift_0 >= 32)
            {
                found_1[1] = (found_1[1]) | (index_2 << uint(shift_0 - 32));
            }
            else
            {
                if(shift_0 > 29)
                {
                    found_1[1] = (found_1[1]) | (index_2 >> uint(32 - shift_0));
                }
            }
            k_1 = k_1 + 1;
            error_1 = error_2;
            a_2 = a_3;
            b_2 = b_3;
            c_2 = c_3;
            d_2 = d_3;
            e_2 = e_3;
        }
        uvec2 words_4;
        if(error_1 < smallest_1)
        {
            smallest_1 = error_1;
            words_4 = found_1;
        }
        else
        {
            words_4 = words_3;
        }
        float determinant_1 = a_2 * c_2 - b_2 * b_2;
        if(determinant_1 < 0.00100000004749745)
        {
            words_3 = words_4;
            break;
        }
        float high_5 = floor(clamp((c_2 * d_2 - b_2 * e_2) / determinant_1, 0.0, 255.0) + 0.5);
        float low_5 = floor(clamp((a_2 * e_2 - b_2 * d_2) / determinant_1, 0.0, 255.0) + 0.5);
        if((high_5 - low_5) < 0.5)
        {
            words_3 = words_4;
            break;
        }
        int _S45 = fit_1 + 1;
        high_4 = high_5;
        low_4 = low_5;
        words_3 = words_4;
        fit_1 = _S45;
    }
    return words_3;
}

uvec2 ntBlockOfChannel(vec4  texels_5[16], int channel_1)
{
    float  values_1[16];
    int i_7 = 0;
    while(i_7 < 16)
    {
        values_1[i_7] = ntChannel(texels_5[i_7], channel_1);
        i_7 = i_7 + 1;
    }
    return ntBlockOfBC4(values_1);
}

void ntEncodeBlock(ivec2 block_0)
{
    int _S46 = block_0.x;
    int _S47 = 4 * _S46;
    int _S48 = ((ntImage.width));
    bool _S49;
    if(_S47 >= _S48)
    {
        _S49 = true;
    }
    else
    {
        int _S50 = 4 * block_0.y;
        int _S51 = ((ntImage.height));
        _S49 = _S50 >= _S51;
    }
    if(_S49)
    {
        return;
    }
    vec4  texels_6[16];
    int i_8 = 0;
    while(i_8 < 16)
    {
        int _S52 = _S47 + (i_8 & 3);
        int _S53 = ((ntImage.width));
        int _S54 = min(_S52, _S53 - 1);
        int _S55 = 4 * block_0.y + (i_8 >> 2);
        int _S56 = ((ntImage.height));
        int _S57 = min(_S55, _S56 - 1);
        int _S58 = ((ntImage.first));
        int _S59 = ((ntImage.row));
        uint word_0 = (ntLoad((_S58 + _S57 * _S59 + _S54)));
        texels_6[i_8] = vec4(uvec4(word_0 & 255U, (word_0 >> 8U) & 255U, (word_0 >> 16U) & 255U, word_0 >> 24U));
        i_8 = i_8 + 1;
    }
    int _S60 = ((ntImage.firstBlock));
    int _S61 = block_0.y;
    int _S62 = ((ntImage.rowOfBlocks));
    int _S63 = _S60 + _S61 * _S62;
    int _S64 = ((ntImage.form));
    if(_S64 == 4)
    {
        i_8 = 2;
    }
    else
    {
        i_8 = 4;
    }
    int at_0 = _S63 + _S46 * i_8;
    int _S65 = ((ntImage.form));
    if(_S65 == 7)
    {
        uvec4 words_5 = ntBlockOfBC7(texels_6);
        ntStore((at_0), (words_5.x));
        ntStore((at_0 + 1), (words_5.y));
        ntStore((at_0 + 2), (words_5.z));
        ntStore((at_0 + 3), (words_5.w));
        return;
    }
    int _S66 = ((ntImage.form));
    bool two_0 = _S66 == 5;
    if(two_0)
    {
        i_8 = 2;
    }
    else
    {
        i_8 = 1;
    }
    int part_0 = 0;
    while(part_0 < i_8)
    {
        vec4  _S67[16] = texels_6;
        int _S68;
        if(two_0)
        {
            _S68 = part_0;
        }
        else
        {
            int _S69 = ((ntImage.channel));
            _S68 = _S69;
        }
        uvec2 words_6 = ntBlockOfChannel(_S67, _S68);
        int _S70 = at_0 + 2 * part_0;
        ntStore((_S70), (words_6.x));
        ntStore((_S70 + 1), (words_6.y));
        part_0 = part_0 + 1;
    }
    return;
}
