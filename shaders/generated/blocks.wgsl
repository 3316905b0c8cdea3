// Generated from blocks.slang; do not edit.

fn ntMainAxis( texels_0 : array<vec4<f32>, i32(16)>,  low_0 : ptr<function, vec4<f32>>,  high_0 : ptr<function, vec4<f32>>)
{
    const _S1 : vec4<f32> = vec4<f32>(0.0f, 0.0f, 0.0f, 0.0f);
    var i_0 : i32 = i32(0);
    var mean_0 : vec4<f32> = _S1;
    while(i_0 < i32(16))
    {
        var mean_1 : vec4<f32> = mean_0 + texels_0[i_0] / vec4<f32>(16.0f);
        i_0 = i_0 + i32(1);
        mean_0 = mean_1;
    }
    var j_0 : i32 = i32(0);
    var red_0 : vec4<f32> = _S1;
    var green_0 : vec4<f32> = _S1;
    var blue_0 : vec4<f32> = _S1;
    var alpha_0 : vec4<f32> = _S1;
    while(j_0 < i32(16))
    {
        var off_0 : vec4<f32> = texels_0[j_0] - mean_0;
        var red_1 : vec4<f32> = red_0 + vec4<f32>(off_0.x) * off_0;
        var green_1 : vec4<f32> = green_0 + vec4<f32>(off_0.y) * off_0;
        var blue_1 : vec4<f32> = blue_0 + vec4<f32>(off_0.z) * off_0;
        var alpha_1 : vec4<f32> = alpha_0 + vec4<f32>(off_0.w) * off_0;
        j_0 = j_0 + i32(1);
        red_0 = red_1;
        green_0 = green_1;
        blue_0 = blue_1;
        alpha_0 = alpha_1;
    }
    var most_0 : f32 = red_0.x;
    var _S2 : f32 = green_0.y;
    var axis_0 : vec4<f32>;
    var most_1 : f32;
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
    var _S3 : f32 = blue_0.z;
    if(_S3 > most_1)
    {
        most_1 = _S3;
        axis_0 = blue_0;
    }
    if((alpha_0.w) > most_1)
    {
        axis_0 = alpha_0;
    }
    var round_0 : i32 = i32(0);
    while(round_0 < i32(4))
    {
        var _S4 : f32 = dot(red_0, axis_0);
        var _S5 : f32 = dot(green_0, axis_0);
        var _S6 : f32 = dot(blue_0, axis_0);
        var _S7 : f32 = dot(alpha_0, axis_0);
        var axis_1 : vec4<f32> = vec4<f32>(_S4, _S5, _S6, _S7) / vec4<f32>(max(max(max(abs(_S4), abs(_S5)), max(abs(_S6), abs(_S7))), 9.99999997475242708e-07f));
        round_0 = round_0 + i32(1);
        axis_0 = axis_1;
    }
    var _S8 : f32 = max(dot(axis_0, axis_0), 9.99999997475242708e-07f);
    var least_0 : f32 = 0.0f;
    var furthest_0 : f32 = 0.0f;
    var k_0 : i32 = i32(0);
    while(k_0 < i32(16))
    {
        var place_0 : f32 = dot(texels_0[k_0] - mean_0, axis_0) / _S8;
        var _S9 : f32 = min(least_0, place_0);
        var _S10 : f32 = max(furthest_0, place_0);
        var _S11 : i32 = k_0 + i32(1);
        least_0 = _S9;
        furthest_0 = _S10;
        k_0 = _S11;
    }
    var _S12 : vec4<f32> = vec4<f32>(0.0f);
    var _S13 : vec4<f32> = vec4<f32>(255.0f);
    (*low_0) = clamp(mean_0 + axis_0 * vec4<f32>(least_0), _S12, _S13);
    (*high_0) = clamp(mean_0 + axis_0 * vec4<f32>(furthest_0), _S12, _S13);
    return;
}

fn ntWithBit( value_0 : vec4<f32>,  bit_0 : f32) -> vec4<f32>
{
    var _S14 : vec4<f32> = vec4<f32>(bit_0);
    var _S15 : vec4<f32> = vec4<f32>(0.5f);
    return floor(clamp((value_0 - _S14) * _S15 + _S15, vec4<f32>(0.0f), vec4<f32>(127.0f))) * vec4<f32>(2.0f) + _S14;
}

fn ntEndPoint( value_1 : vec4<f32>,  rounding_0 : i32,  alphas_0 : i32) -> vec4<f32>
{
    if(rounding_0 == i32(2))
    {
        return floor(value_1 + vec4<f32>(0.5f));
    }
    if(rounding_0 == i32(1))
    {
        var code_0 : vec4<f32> = floor(value_1 * vec4<f32>(0.49803921580314636f) + vec4<f32>(0.5f));
        return code_0 * vec4<f32>(2.0f) + floor(code_0 / vec4<f32>(64.0f));
    }
    var odd_0 : vec4<f32> = ntWithBit(value_1, 1.0f);
    var even_0 : vec4<f32> = ntWithBit(value_1, 0.0f);
    var offOdd_0 : vec4<f32> = odd_0 - value_1;
    var offEven_0 : vec4<f32> = even_0 - value_1;
    var takeOdd_0 : bool;
    if(alphas_0 == i32(1))
    {
        takeOdd_0 = true;
    }
    else
    {
        if(alphas_0 == i32(2))
        {
            takeOdd_0 = (dot(offOdd_0, offOdd_0)) < (dot(offEven_0, offEven_0));
        }
        else
        {
            takeOdd_0 = false;
        }
    }
    var _S16 : vec4<f32>;
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

fn ntPlaceOf( index_0 : i32,  last_0 : i32) -> f32
{
    var _S17 : i32 = (index_0 * i32(64) + last_0 / i32(2)) / last_0;
    return f32(_S17);
}

fn ntIndicesOf( texels_1 : array<vec4<f32>, i32(16)>,  low_1 : vec4<f32>,  high_1 : vec4<f32>,  last_1 : i32,  indices_0 : ptr<function, vec2<u32>>) -> f32
{
    (*indices_0) = vec2<u32>(u32(0), u32(0));
    var axis_2 : vec4<f32> = high_1 - low_1;
    var _S18 : f32 = f32(last_1);
    var _S19 : f32 = _S18 / max(dot(axis_2, axis_2), 9.99999997475242708e-07f);
    var i_1 : i32 = i32(0);
    var total_0 : f32 = 0.0f;
    while(i_1 < i32(16))
    {
        var index_1 : i32 = i32(clamp(dot(texels_1[i_1] - low_1, axis_2) * _S19 + 0.5f, 0.0f, _S18));
        var _S20 : vec4<f32> = vec4<f32>(64.0f);
        var _S21 : vec4<f32> = low_1 * _S20;
        var _S22 : f32 = ntPlaceOf(index_1, last_1);
        var off_1 : vec4<f32> = floor((_S21 + axis_2 * vec4<f32>(_S22) + vec4<f32>(32.0f)) / _S20) - texels_1[i_1];
        var total_1 : f32 = total_0 + dot(off_1, off_1);
        var bits_0 : u32 = (u32(index_1) << (u32(i32(4) * ((i_1 & (i32(7)))))));
        if(i_1 < i32(8))
        {
            (*indices_0)[i32(0)] = (((*indices_0)[i32(0)]) | (bits_0));
        }
        else
        {
            (*indices_0)[i32(1)] = (((*indices_0)[i32(1)]) | (bits_0));
        }
        i_1 = i_1 + i32(1);
        total_0 = total_1;
    }
    return total_0;
}

fn ntIndexAt( indices_1 : vec2<u32>,  i_2 : i32) -> i32
{
    var _S23 : u32;
    if(i_2 < i32(8))
    {
        _S23 = indices_1.x;
    }
    else
    {
        _S23 = indices_1.y;
    }
    return (i32((_S23 >> (u32(i32(4) * ((i_2 & (i32(7)))))))) & (i32(15)));
}

fn ntFit( texels_2 : array<vec4<f32>, i32(16)>,  indices_2 : vec2<u32>,  last_2 : i32,  low_2 : ptr<function, vec4<f32>>,  high_2 : ptr<function, vec4<f32>>)
{
    const _S24 : vec4<f32> = vec4<f32>(0.0f, 0.0f, 0.0f, 0.0f);
    var i_3 : i32 = i32(0);
    var a_0 : f32 = 0.0f;
    var b_0 : f32 = 0.0f;
    var c_0 : f32 = 0.0f;
    var d_0 : vec4<f32> = _S24;
    var e_0 : vec4<f32> = _S24;
    while(i_3 < i32(16))
    {
        var _S25 : f32 = ntPlaceOf(ntIndexAt(indices_2, i_3), last_2);
        var place_1 : f32 = _S25 / 64.0f;
        var _S26 : f32 = 1.0f - place_1;
        var a_1 : f32 = a_0 + _S26 * _S26;
        var b_1 : f32 = b_0 + _S26 * place_1;
        var c_1 : f32 = c_0 + place_1 * place_1;
        var d_1 : vec4<f32> = d_0 + vec4<f32>(_S26) * texels_2[i_3];
        var e_1 : vec4<f32> = e_0 + vec4<f32>(place_1) * texels_2[i_3];
        i_3 = i_3 + i32(1);
        a_0 = a_1;
        b_0 = b_1;
        c_0 = c_1;
        d_0 = d_1;
        e_0 = e_1;
    }
    var determinant_0 : f32 = a_0 * c_0 - b_0 * b_0;
    if(determinant_0 > 0.00100000004749745f)
    {
        var _S27 : vec4<f32> = vec4<f32>(determinant_0);
        var _S28 : vec4<f32> = vec4<f32>(0.0f);
        var _S29 : vec4<f32> = vec4<f32>(255.0f);
        (*low_2) = clamp((vec4<f32>(c_0) * d_0 - vec4<f32>(b_0) * e_0) / _S27, _S28, _S29);
        (*high_2) = clamp((vec4<f32>(a_0) * e_0 - vec4<f32>(b_0) * d_0) / _S27, _S28, _S29);
    }
    return;
}

fn ntSearch( texels_3 : array<vec4<f32>, i32(16)>,  last_3 : i32,  rounding_1 : i32,  alphas_1 : i32,  first_0 : ptr<function, vec4<f32>>,  second_0 : ptr<function, vec4<f32>>,  indices_3 : ptr<function, vec2<u32>>) -> f32
{
    var low_3 : vec4<f32>;
    var high_3 : vec4<f32>;
    ntMainAxis(texels_3, &(low_3), &(high_3));
    (*first_0) = low_3;
    (*second_0) = high_3;
    (*indices_3) = vec2<u32>(u32(0), u32(0));
    var smallest_0 : f32 = 1.00000001504746622e+30f;
    var fit_0 : i32 = i32(0);
    while(fit_0 <= i32(3))
    {
        var e0_0 : vec4<f32> = ntEndPoint(low_3, rounding_1, alphas_1);
        var e1_0 : vec4<f32> = ntEndPoint(high_3, rounding_1, alphas_1);
        var found_0 : vec2<u32>;
        var error_0 : f32 = ntIndicesOf(texels_3, e0_0, e1_0, last_3, &(found_0));
        if(error_0 < smallest_0)
        {
            (*first_0) = e0_0;
            (*second_0) = e1_0;
            (*indices_3) = found_0;
            smallest_0 = error_0;
        }
        ntFit(texels_3, found_0, last_3, &(low_3), &(high_3));
        fit_0 = fit_0 + i32(1);
    }
    if((ntIndexAt((*indices_3), i32(0))) > (last_3 / i32(2)))
    {
        var swapped_0 : vec4<f32> = (*first_0);
        (*first_0) = (*second_0);
        (*second_0) = swapped_0;
        var _S30 : vec2<u32>;
        if(last_3 == i32(15))
        {
            _S30 = vec2<u32>(u32(4294967295), u32(4294967295));
        }
        else
        {
            _S30 = vec2<u32>(u32(858993459), u32(858993459));
        }
        (*indices_3) = _S30 - (*indices_3);
    }
    return smallest_0;
}

fn ntTwoBits( indices_4 : vec2<u32>) -> u32
{
    var _S31 : u32 = u32(ntIndexAt(indices_4, i32(0)));
    var i_4 : i32 = i32(1);
    var bits_1 : u32 = _S31;
    while(i_4 < i32(16))
    {
        var bits_2 : u32 = (bits_1 | (((u32(ntIndexAt(indices_4, i_4)) << (u32(i32(2) * i_4 - i32(1)))))));
        i_4 = i_4 + i32(1);
        bits_1 = bits_2;
    }
    return bits_1;
}

fn ntWordsOfMode5( first_1 : vec4<f32>,  second_1 : vec4<f32>,  indices_5 : vec2<u32>,  alphas_2 : vec2<f32>,  alphaIndices_0 : vec2<u32>) -> vec4<u32>
{
    var _S32 : vec4<u32> = vec4<u32>(u32(1));
    var p_0 : vec4<u32> = (vec4<u32>(first_1) >> (_S32));
    var q_0 : vec4<u32> = (vec4<u32>(second_1) >> (_S32));
    var _S33 : vec2<u32> = vec2<u32>(alphas_2);
    var colours_0 : u32 = ntTwoBits(indices_5);
    var words_0 : vec4<u32>;
    var _S34 : u32 = q_0.y;
    words_0[i32(0)] = (((((((u32(32) | ((((p_0.x) << (u32(8))))))) | ((((q_0.x) << (u32(15))))))) | ((((p_0.y) << (u32(22))))))) | (((_S34 << (u32(29))))));
    var _S35 : u32 = _S33.y;
    words_0[i32(1)] = (((((((((_S34 >> (u32(3)))) | ((((p_0.z) << (u32(4))))))) | ((((q_0.z) << (u32(11))))))) | ((((_S33.x) << (u32(18))))))) | (((_S35 << (u32(26))))));
    words_0[i32(2)] = (((_S35 >> (u32(6)))) | (((colours_0 << (u32(2))))));
    words_0[i32(3)] = (((colours_0 >> (u32(30)))) | ((((ntTwoBits(alphaIndices_0)) << (u32(1))))));
    return words_0;
}

fn ntWordsOfMode6( first_2 : vec4<f32>,  second_2 : vec4<f32>,  indices_6 : vec2<u32>) -> vec4<u32>
{
    var _S36 : vec4<u32> = vec4<u32>(first_2);
    var _S37 : vec4<u32> = vec4<u32>(second_2);
    var _S38 : vec4<u32> = vec4<u32>(u32(1));
    var p_1 : vec4<u32> = (_S36 >> (_S38));
    var q_1 : vec4<u32> = (_S37 >> (_S38));
    var words_1 : vec4<u32>;
    var _S39 : u32 = q_1.y;
    words_1[i32(0)] = (((((((u32(64) | ((((p_1.x) << (u32(7))))))) | ((((q_1.x) << (u32(14))))))) | ((((p_1.y) << (u32(21))))))) | (((_S39 << (u32(28))))));
    words_1[i32(1)] = (((((((((((_S39 >> (u32(4)))) | ((((p_1.z) << (u32(3))))))) | ((((q_1.z) << (u32(10))))))) | ((((p_1.w) << (u32(17))))))) | ((((q_1.w) << (u32(24))))))) | ((((((_S36.x) & (u32(1)))) << (u32(31))))));
    var _S40 : u32 = indices_6.x;
    words_1[i32(2)] = ((((((_S37.x) & (u32(1)))) | (((((_S40 & (u32(7)))) << (u32(1))))))) | (((_S40 & (u32(4294967280))))));
    words_1[i32(3)] = indices_6.y;
    return words_1;
}

fn ntBlockOfBC7( texels_4 : array<vec4<f32>, i32(16)>) -> vec4<u32>
{
    var colours_1 : array<vec4<f32>, i32(16)>;
    var alphas_3 : array<vec4<f32>, i32(16)>;
    var least_1 : f32 = 255.0f;
    var most_2 : f32 = 0.0f;
    var i_5 : i32 = i32(0);
    while(i_5 < i32(16))
    {
        var alpha_2 : f32 = texels_4[i_5].w;
        var _S41 : f32 = min(least_1, alpha_2);
        var _S42 : f32 = max(most_2, alpha_2);
        colours_1[i_5] = vec4<f32>(texels_4[i_5].xyz, 0.0f);
        alphas_3[i_5] = vec4<f32>(0.0f, 0.0f, 0.0f, alpha_2);
        var _S43 : i32 = i_5 + i32(1);
        least_1 = _S41;
        most_2 = _S42;
        i_5 = _S43;
    }
    var e0_1 : vec4<f32>;
    var e1_1 : vec4<f32>;
    var c0_0 : vec4<f32>;
    var c1_0 : vec4<f32>;
    var a0_0 : vec4<f32>;
    var a1_0 : vec4<f32>;
    var indices_7 : vec2<u32>;
    var ofColours_0 : vec2<u32>;
    var ofAlphas_0 : vec2<u32>;
    if(least_1 >= 255.0f)
    {
        i_5 = i32(1);
    }
    else
    {
        if(most_2 <= 0.0f)
        {
            i_5 = i32(0);
        }
        else
        {
            i_5 = i32(2);
        }
    }
    var together_0 : f32 = ntSearch(texels_4, i32(15), i32(0), i_5, &(e0_1), &(e1_1), &(indices_7));
    var _S44 : f32 = ntSearch(colours_1, i32(3), i32(1), i32(0), &(c0_0), &(c1_0), &(ofColours_0));
    var _S45 : f32 = ntSearch(alphas_3, i32(3), i32(2), i32(0), &(a0_0), &(a1_0), &(ofAlphas_0));
    if((_S44 + _S45) < together_0)
    {
        return ntWordsOfMode5(c0_0, c1_0, ofColours_0, vec2<f32>(a0_0.w, a1_0.w), ofAlphas_0);
    }
    return ntWordsOfMode6(e0_1, e1_1, indices_7);
}

fn ntChannel( texel_0 : vec4<f32>,  channel_0 : i32) -> f32
{
    var _S46 : f32;
    if(channel_0 == i32(0))
    {
        _S46 = texel_0.x;
    }
    else
    {
        if(channel_0 == i32(1))
        {
            _S46 = texel_0.y;
        }
        else
        {
            if(channel_0 == i32(2))
            {
                _S46 = texel_0.z;
            }
            else
            {
                _S46 = texel_0.w;
            }
        }
    }
    return _S46;
}

fn ntBlockOfBC4( values_0 : array<f32, i32(16)>) -> vec2<u32>
{
    var low_4 : f32 = 255.0f;
    var high_4 : f32 = 0.0f;
    var i_6 : i32 = i32(0);
    while(i_6 < i32(16))
    {
        var _S47 : f32 = min(low_4, values_0[i_6]);
        var _S48 : f32 = max(high_4, values_0[i_6]);
        var _S49 : i32 = i_6 + i32(1);
        low_4 = _S47;
        high_4 = _S48;
        i_6 = _S49;
    }
    var words_2 : vec2<u32> = vec2<u32>((u32(high_4) | (((u32(low_4) << (u32(8)))))), u32(0));
    if((high_4 - low_4) < 0.5f)
    {
        return words_2;
    }
    var smallest_1 : f32 = 1.00000001504746622e+30f;
    var words_3 : vec2<u32> = words_2;
    var fit_1 : i32 = i32(0);
    while(fit_1 <= i32(2))
    {
        var found_1 : vec2<u32> = vec2<u32>((u32(high_4) | (((u32(low_4) << (u32(8)))))), u32(0));
        var k_1 : i32 = i32(0);
        var error_1 : f32 = 0.0f;
        var a_2 : f32 = 0.0f;
        var b_2 : f32 = 0.0f;
        var c_2 : f32 = 0.0f;
        var d_2 : f32 = 0.0f;
        var e_2 : f32 = 0.0f;
        while(k_1 < i32(16))
        {
            var step_0 : i32 = i32(clamp((high_4 - values_0[k_1]) / (high_4 - low_4) * 7.0f + 0.5f, 0.0f, 7.0f));
            var place_2 : f32 = f32(step_0) / 7.0f;
            var off_2 : f32 = high_4 + (low_4 - high_4) * place_2 - values_0[k_1];
            var error_2 : f32 = error_1 + off_2 * off_2;
            var _S50 : f32 = 1.0f - place_2;
            var a_3 : f32 = a_2 + _S50 * _S50;
            var b_3 : f32 = b_2 + _S50 * place_2;
            var c_3 : f32 = c_2 + place_2 * place_2;
            var d_3 : f32 = d_2 + _S50 * values_0[k_1];
            var e_3 : f32 = e_2 + place_2 * values_0[k_1];
            var index_2 : u32;
            if(step_0 == i32(0))
            {
                index_2 = u32(0);
            }
            else
            {
                if(step_0 == i32(7))
                {
                    index_2 = u32(1);
                }
                else
                {
                    index_2 = u32(step_0 + i32(1));
                }
            }
            var shift_0 : i32 = i32(16) + i32(3) * k_1;
            if(shift_0 < i32(32))
            {
                found_1[i32(0)] = ((found_1[i32(0)]) | (((index_2 << (u32(shift_0))))));
            }
            if(shift_0 >= i32(32))
            {
                found_1[i32(1)] = ((found_1[i32(1)]) | (((index_2 << (u32(shift_0 - i32(32)))))));
            }
            else
            {
                if(shift_0 > i32(29))
                {
                    found_1[i32(1)] = ((found_1[i32(1)]) | (((index_2 >> (u32(i32(32) - shift_0))))));
                }
            }
            k_1 = k_1 + i32(1);
            error_1 = error_2;
            a_2 = a_3;
            b_2 = b_3;
            c_2 = c_3;
            d_2 = d_3;
            e_2 = e_3;
        }
        var words_4 : vec2<u32>;
        if(error_1 < smallest_1)
        {
            smallest_1 = error_1;
            words_4 = found_1;
        }
        else
        {
            words_4 = words_3;
        }
        var determinant_1 : f32 = a_2 * c_2 - b_2 * b_2;
        if(determinant_1 < 0.00100000004749745f)
        {
            words_3 = words_4;
            break;
        }
        var high_5 : f32 = floor(clamp((c_2 * d_2 - b_2 * e_2) / determinant_1, 0.0f, 255.0f) + 0.5f);
        var low_5 : f32 = floor(clamp((a_2 * e_2 - b_2 * d_2) / determinant_1, 0.0f, 255.0f) + 0.5f);
        if((high_5 - low_5) < 0.5f)
        {
            words_3 = words_4;
            break;
        }
        var _S51 : i32 = fit_1 + i32(1);
        high_4 = high_5;
        low_4 = low_5;
        words_3 = words_4;
        fit_1 = _S51;
    }
    return words_3;
}

fn ntBlockOfChannel( texels_5 : array<vec4<f32>, i32(16)>,  channel_1 : i32) -> vec2<u32>
{
    var values_1 : array<f32, i32(16)>;
    var i_7 : i32 = i32(0);
    while(i_7 < i32(16))
    {
        values_1[i_7] = ntChannel(texels_5[i_7], channel_1);
        i_7 = i_7 + i32(1);
    }
    return ntBlockOfBC4(values_1);
}

fn ntEncodeBlock( block_0 : vec2<i32>)
{
    var _S52 : i32 = block_0.x;
    var _S53 : i32 = i32(4) * _S52;
    var _S54 : i32 = ((ntImage.width));
    var _S55 : bool;
    if(_S53 >= _S54)
    {
        _S55 = true;
    }
    else
    {
        var _S56 : i32 = i32(4) * block_0.y;
        var _S57 : i32 = ((ntImage.height));
        _S55 = _S56 >= _S57;
    }
    if(_S55)
    {
        return;
    }
    var texels_6 : array<vec4<f32>, i32(16)>;
    var i_8 : i32 = i32(0);
    while(i_8 < i32(16))
    {
        var _S58 : i32 = _S53 + ((i_8 & (i32(3))));
        var _S59 : i32 = ((ntImage.width));
        var _S60 : i32 = min(_S58, _S59 - i32(1));
        var _S61 : i32 = i32(4) * block_0.y + ((i_8 >> (u32(2))));
        var _S62 : i32 = ((ntImage.height));
        var _S63 : i32 = min(_S61, _S62 - i32(1));
        var _S64 : i32 = ((ntImage.first));
        var _S65 : i32 = ((ntImage.row));
        var word_0 : u32 = (ntLoad((_S64 + _S63 * _S65 + _S60)));
        texels_6[i_8] = vec4<f32>(vec4<u32>((word_0 & (u32(255))), (((word_0 >> (u32(8)))) & (u32(255))), (((word_0 >> (u32(16)))) & (u32(255))), (word_0 >> (u32(24)))));
        i_8 = i_8 + i32(1);
    }
    var _S66 : i32 = ((ntImage.firstBlock));
    var _S67 : i32 = block_0.y;
    var _S68 : i32 = ((ntImage.rowOfBlocks));
    var _S69 : i32 = _S66 + _S67 * _S68;
    var _S70 : i32 = ((ntImage.form));
    if(_S70 == i32(4))
    {
        i_8 = i32(2);
    }
    else
    {
        i_8 = i32(4);
    }
    var at_0 : i32 = _S69 + _S52 * i_8;
    var _S71 : i32 = ((ntImage.form));
    if(_S71 == i32(7))
    {
        var words_5 : vec4<u32> = ntBlockOfBC7(texels_6);
        ntStore((at_0), (words_5.x));
        ntStore((at_0 + i32(1)), (words_5.y));
        ntStore((at_0 + i32(2)), (words_5.z));
        ntStore((at_0 + i32(3)), (words_5.w));
        return;
    }
    var _S72 : i32 = ((ntImage.form));
    var two_0 : bool = _S72 == i32(5);
    if(two_0)
    {
        i_8 = i32(2);
    }
    else
    {
        i_8 = i32(1);
    }
    var part_0 : i32 = i32(0);
    while(part_0 < i_8)
    {
        var _S73 : array<vec4<f32>, i32(16)> = texels_6;
        var _S74 : i32;
        if(two_0)
        {
            _S74 = part_0;
        }
        else
        {
            var _S75 : i32 = ((ntImage.channel));
            _S74 = _S75;
        }
        var words_6 : vec2<u32> = ntBlockOfChannel(_S73, _S74);
        var _S76 : i32 = at_0 + i32(2) * part_0;
        ntStore((_S76), (words_6.x));
        ntStore((_S76 + i32(1)), (words_6.y));
        part_0 = part_0 + i32(1);
    }
    return;
}
