// Generated from blocks.slang; do not edit.

fn ntChannelsOf( search_0 : i32) -> vec4<f32>
{
    if(search_0 == i32(0))
    {
        return vec4<f32>(1.0f, 1.0f, 1.0f, 1.0f);
    }
    var alpha_0 : bool;
    if(search_0 == i32(2))
    {
        alpha_0 = true;
    }
    else
    {
        alpha_0 = search_0 == i32(4);
    }
    if(alpha_0)
    {
        alpha_0 = true;
    }
    else
    {
        alpha_0 = search_0 == i32(6);
    }
    var _S1 : vec4<f32>;
    if(alpha_0)
    {
        _S1 = vec4<f32>(0.0f, 0.0f, 0.0f, 1.0f);
    }
    else
    {
        _S1 = vec4<f32>(1.0f, 1.0f, 1.0f, 0.0f);
    }
    return _S1;
}

fn ntLastIndex( search_1 : i32) -> i32
{
    var _S2 : i32;
    if(search_1 == i32(0))
    {
        _S2 = i32(15);
    }
    else
    {
        var _S3 : bool;
        if(search_1 == i32(3))
        {
            _S3 = true;
        }
        else
        {
            _S3 = search_1 == i32(6);
        }
        if(_S3)
        {
            _S2 = i32(7);
        }
        else
        {
            _S2 = i32(3);
        }
    }
    return _S2;
}

fn ntMainAxis( texels_0 : array<vec4<f32>, i32(16)>,  low_0 : ptr<function, vec4<f32>>,  high_0 : ptr<function, vec4<f32>>)
{
    const _S4 : vec4<f32> = vec4<f32>(0.0f, 0.0f, 0.0f, 0.0f);
    var i_0 : i32 = i32(0);
    var mean_0 : vec4<f32> = _S4;
    while(i_0 < i32(16))
    {
        var mean_1 : vec4<f32> = mean_0 + texels_0[i_0] / vec4<f32>(16.0f);
        i_0 = i_0 + i32(1);
        mean_0 = mean_1;
    }
    var j_0 : i32 = i32(0);
    var red_0 : vec4<f32> = _S4;
    var green_0 : vec4<f32> = _S4;
    var blue_0 : vec4<f32> = _S4;
    var alpha_1 : vec4<f32> = _S4;
    while(j_0 < i32(16))
    {
        var off_0 : vec4<f32> = texels_0[j_0] - mean_0;
        var red_1 : vec4<f32> = red_0 + vec4<f32>(off_0.x) * off_0;
        var green_1 : vec4<f32> = green_0 + vec4<f32>(off_0.y) * off_0;
        var blue_1 : vec4<f32> = blue_0 + vec4<f32>(off_0.z) * off_0;
        var alpha_2 : vec4<f32> = alpha_1 + vec4<f32>(off_0.w) * off_0;
        j_0 = j_0 + i32(1);
        red_0 = red_1;
        green_0 = green_1;
        blue_0 = blue_1;
        alpha_1 = alpha_2;
    }
    var most_0 : f32 = red_0.x;
    var _S5 : f32 = green_0.y;
    var axis_0 : vec4<f32>;
    var most_1 : f32;
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
    var _S6 : f32 = blue_0.z;
    if(_S6 > most_1)
    {
        most_1 = _S6;
        axis_0 = blue_0;
    }
    if((alpha_1.w) > most_1)
    {
        axis_0 = alpha_1;
    }
    var round_0 : i32 = i32(0);
    while(round_0 < i32(4))
    {
        var _S7 : f32 = dot(red_0, axis_0);
        var _S8 : f32 = dot(green_0, axis_0);
        var _S9 : f32 = dot(blue_0, axis_0);
        var _S10 : f32 = dot(alpha_1, axis_0);
        var axis_1 : vec4<f32> = vec4<f32>(_S7, _S8, _S9, _S10) / vec4<f32>(max(max(max(abs(_S7), abs(_S8)), max(abs(_S9), abs(_S10))), 9.99999997475242708e-07f));
        round_0 = round_0 + i32(1);
        axis_0 = axis_1;
    }
    var _S11 : f32 = max(dot(axis_0, axis_0), 9.99999997475242708e-07f);
    var least_0 : f32 = 0.0f;
    var furthest_0 : f32 = 0.0f;
    var k_0 : i32 = i32(0);
    while(k_0 < i32(16))
    {
        var place_0 : f32 = dot(texels_0[k_0] - mean_0, axis_0) / _S11;
        var _S12 : f32 = min(least_0, place_0);
        var _S13 : f32 = max(furthest_0, place_0);
        var _S14 : i32 = k_0 + i32(1);
        least_0 = _S12;
        furthest_0 = _S13;
        k_0 = _S14;
    }
    var _S15 : vec4<f32> = vec4<f32>(0.0f);
    var _S16 : vec4<f32> = vec4<f32>(255.0f);
    (*low_0) = clamp(mean_0 + axis_0 * vec4<f32>(least_0), _S15, _S16);
    (*high_0) = clamp(mean_0 + axis_0 * vec4<f32>(furthest_0), _S15, _S16);
    return;
}

fn ntRepeated( value_0 : vec4<f32>,  top_0 : f32,  high_1 : f32,  low_1 : f32) -> vec4<f32>
{
    var code_0 : vec4<f32> = floor(value_0 * vec4<f32>((top_0 / 255.0f)) + vec4<f32>(0.5f));
    return code_0 * vec4<f32>(high_1) + floor(code_0 / vec4<f32>(low_1));
}

fn ntWithBit( value_1 : vec4<f32>,  bit_0 : f32) -> vec4<f32>
{
    var _S17 : vec4<f32> = vec4<f32>(bit_0);
    var _S18 : vec4<f32> = vec4<f32>(0.5f);
    return floor(clamp((value_1 - _S17) * _S18 + _S18, vec4<f32>(0.0f), vec4<f32>(127.0f))) * vec4<f32>(2.0f) + _S17;
}

fn ntEndPoint( value_2 : vec4<f32>,  search_2 : i32,  alphas_0 : i32) -> vec4<f32>
{
    if(search_2 == i32(2))
    {
        return floor(value_2 + vec4<f32>(0.5f));
    }
    if(search_2 == i32(1))
    {
        return ntRepeated(value_2, 127.0f, 2.0f, 64.0f);
    }
    var takeOdd_0 : bool;
    if(search_2 == i32(4))
    {
        takeOdd_0 = true;
    }
    else
    {
        takeOdd_0 = search_2 == i32(6);
    }
    if(takeOdd_0)
    {
        return ntRepeated(value_2, 63.0f, 4.0f, 16.0f);
    }
    if(search_2 == i32(3))
    {
        takeOdd_0 = true;
    }
    else
    {
        takeOdd_0 = search_2 == i32(5);
    }
    if(takeOdd_0)
    {
        return ntRepeated(value_2, 31.0f, 8.0f, 4.0f);
    }
    var odd_0 : vec4<f32> = ntWithBit(value_2, 1.0f);
    var even_0 : vec4<f32> = ntWithBit(value_2, 0.0f);
    var offOdd_0 : vec4<f32> = odd_0 - value_2;
    var offEven_0 : vec4<f32> = even_0 - value_2;
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
    var _S19 : vec4<f32>;
    if(takeOdd_0)
    {
        _S19 = odd_0;
    }
    else
    {
        _S19 = even_0;
    }
    return _S19;
}

fn ntPlaceOf( index_0 : i32,  last_0 : i32) -> f32
{
    var _S20 : i32 = (index_0 * i32(64) + last_0 / i32(2)) / last_0;
    return f32(_S20);
}

fn ntIndicesOf( texels_1 : array<vec4<f32>, i32(16)>,  low_2 : vec4<f32>,  high_2 : vec4<f32>,  last_1 : i32,  indices_0 : ptr<function, vec2<u32>>) -> f32
{
    (*indices_0) = vec2<u32>(u32(0), u32(0));
    var axis_2 : vec4<f32> = high_2 - low_2;
    var _S21 : f32 = f32(last_1);
    var _S22 : f32 = _S21 / max(dot(axis_2, axis_2), 9.99999997475242708e-07f);
    var i_1 : i32 = i32(0);
    var total_0 : f32 = 0.0f;
    while(i_1 < i32(16))
    {
        var index_1 : i32 = i32(clamp(dot(texels_1[i_1] - low_2, axis_2) * _S22 + 0.5f, 0.0f, _S21));
        var _S23 : vec4<f32> = vec4<f32>(64.0f);
        var _S24 : vec4<f32> = low_2 * _S23;
        var _S25 : f32 = ntPlaceOf(index_1, last_1);
        var off_1 : vec4<f32> = floor((_S24 + axis_2 * vec4<f32>(_S25) + vec4<f32>(32.0f)) / _S23) - texels_1[i_1];
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
    var _S26 : u32;
    if(i_2 < i32(8))
    {
        _S26 = indices_1.x;
    }
    else
    {
        _S26 = indices_1.y;
    }
    return (i32((_S26 >> (u32(i32(4) * ((i_2 & (i32(7)))))))) & (i32(15)));
}

fn ntFit( texels_2 : array<vec4<f32>, i32(16)>,  indices_2 : vec2<u32>,  last_2 : i32,  low_3 : ptr<function, vec4<f32>>,  high_3 : ptr<function, vec4<f32>>)
{
    const _S27 : vec4<f32> = vec4<f32>(0.0f, 0.0f, 0.0f, 0.0f);
    var i_3 : i32 = i32(0);
    var a_0 : f32 = 0.0f;
    var b_0 : f32 = 0.0f;
    var c_0 : f32 = 0.0f;
    var d_0 : vec4<f32> = _S27;
    var e_0 : vec4<f32> = _S27;
    while(i_3 < i32(16))
    {
        var _S28 : f32 = ntPlaceOf(ntIndexAt(indices_2, i_3), last_2);
        var place_1 : f32 = _S28 / 64.0f;
        var _S29 : f32 = 1.0f - place_1;
        var a_1 : f32 = a_0 + _S29 * _S29;
        var b_1 : f32 = b_0 + _S29 * place_1;
        var c_1 : f32 = c_0 + place_1 * place_1;
        var d_1 : vec4<f32> = d_0 + vec4<f32>(_S29) * texels_2[i_3];
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
        var _S30 : vec4<f32> = vec4<f32>(determinant_0);
        var _S31 : vec4<f32> = vec4<f32>(0.0f);
        var _S32 : vec4<f32> = vec4<f32>(255.0f);
        (*low_3) = clamp((vec4<f32>(c_0) * d_0 - vec4<f32>(b_0) * e_0) / _S30, _S31, _S32);
        (*high_3) = clamp((vec4<f32>(a_0) * e_0 - vec4<f32>(b_0) * d_0) / _S30, _S31, _S32);
    }
    return;
}

fn ntSearch( texels_3 : array<vec4<f32>, i32(16)>,  search_3 : i32,  alphas_1 : i32,  first_0 : ptr<function, vec4<f32>>,  second_0 : ptr<function, vec4<f32>>,  indices_3 : ptr<function, vec2<u32>>) -> f32
{
    var last_3 : i32 = ntLastIndex(search_3);
    var low_4 : vec4<f32>;
    var high_4 : vec4<f32>;
    ntMainAxis(texels_3, &(low_4), &(high_4));
    (*first_0) = low_4;
    (*second_0) = high_4;
    (*indices_3) = vec2<u32>(u32(0), u32(0));
    var smallest_0 : f32 = 1.00000001504746622e+30f;
    var fit_0 : i32 = i32(0);
    while(fit_0 <= i32(3))
    {
        var e0_0 : vec4<f32> = ntEndPoint(low_4, search_3, alphas_1);
        var e1_0 : vec4<f32> = ntEndPoint(high_4, search_3, alphas_1);
        var found_0 : vec2<u32>;
        var error_0 : f32 = ntIndicesOf(texels_3, e0_0, e1_0, last_3, &(found_0));
        if(error_0 < smallest_0)
        {
            (*first_0) = e0_0;
            (*second_0) = e1_0;
            (*indices_3) = found_0;
            smallest_0 = error_0;
        }
        ntFit(texels_3, found_0, last_3, &(low_4), &(high_4));
        fit_0 = fit_0 + i32(1);
    }
    if((ntIndexAt((*indices_3), i32(0))) > (last_3 / i32(2)))
    {
        var swapped_0 : vec4<f32> = (*first_0);
        (*first_0) = (*second_0);
        (*second_0) = swapped_0;
        var all_0 : u32 = u32(last_3) * u32(286331153);
        (*indices_3) = vec2<u32>(all_0, all_0) - (*indices_3);
    }
    return smallest_0;
}

fn ntWordsOfMode6( first_1 : vec4<f32>,  second_1 : vec4<f32>,  indices_4 : vec2<u32>) -> vec4<u32>
{
    var _S33 : vec4<u32> = vec4<u32>(first_1);
    var _S34 : vec4<u32> = vec4<u32>(second_1);
    var _S35 : vec4<u32> = vec4<u32>(u32(1));
    var p_0 : vec4<u32> = (_S33 >> (_S35));
    var q_0 : vec4<u32> = (_S34 >> (_S35));
    var words_0 : vec4<u32>;
    var _S36 : u32 = q_0.y;
    words_0[i32(0)] = (((((((u32(64) | ((((p_0.x) << (u32(7))))))) | ((((q_0.x) << (u32(14))))))) | ((((p_0.y) << (u32(21))))))) | (((_S36 << (u32(28))))));
    words_0[i32(1)] = (((((((((((_S36 >> (u32(4)))) | ((((p_0.z) << (u32(3))))))) | ((((q_0.z) << (u32(10))))))) | ((((p_0.w) << (u32(17))))))) | ((((q_0.w) << (u32(24))))))) | ((((((_S33.x) & (u32(1)))) << (u32(31))))));
    var _S37 : u32 = indices_4.x;
    words_0[i32(2)] = ((((((_S34.x) & (u32(1)))) | (((((_S37 & (u32(7)))) << (u32(1))))))) | (((_S37 & (u32(4294967280))))));
    words_0[i32(3)] = indices_4.y;
    return words_0;
}

fn ntTwoBits( indices_5 : vec2<u32>) -> u32
{
    var _S38 : u32 = u32(ntIndexAt(indices_5, i32(0)));
    var i_4 : i32 = i32(1);
    var bits_1 : u32 = _S38;
    while(i_4 < i32(16))
    {
        var bits_2 : u32 = (bits_1 | (((u32(ntIndexAt(indices_5, i_4)) << (u32(i32(2) * i_4 - i32(1)))))));
        i_4 = i_4 + i32(1);
        bits_1 = bits_2;
    }
    return bits_1;
}

fn ntWordsOfMode5( first_2 : vec4<f32>,  second_2 : vec4<f32>,  indices_6 : vec2<u32>,  alphas_2 : vec2<f32>,  alphaIndices_0 : vec2<u32>) -> vec4<u32>
{
    var _S39 : vec4<u32> = vec4<u32>(u32(1));
    var p_1 : vec4<u32> = (vec4<u32>(first_2) >> (_S39));
    var q_1 : vec4<u32> = (vec4<u32>(second_2) >> (_S39));
    var _S40 : vec2<u32> = vec2<u32>(alphas_2);
    var colours_0 : u32 = ntTwoBits(indices_6);
    var words_1 : vec4<u32>;
    var _S41 : u32 = q_1.y;
    words_1[i32(0)] = (((((((u32(32) | ((((p_1.x) << (u32(8))))))) | ((((q_1.x) << (u32(15))))))) | ((((p_1.y) << (u32(22))))))) | (((_S41 << (u32(29))))));
    var _S42 : u32 = _S40.y;
    words_1[i32(1)] = (((((((((_S41 >> (u32(3)))) | ((((p_1.z) << (u32(4))))))) | ((((q_1.z) << (u32(11))))))) | ((((_S40.x) << (u32(18))))))) | (((_S42 << (u32(26))))));
    words_1[i32(2)] = (((_S42 >> (u32(6)))) | (((colours_0 << (u32(2))))));
    words_1[i32(3)] = (((colours_0 >> (u32(30)))) | ((((ntTwoBits(alphaIndices_0)) << (u32(1))))));
    return words_1;
}

fn ntThreeBits( indices_7 : vec2<u32>) -> vec2<u32>
{
    var bits_3 : vec2<u32> = vec2<u32>(u32(ntIndexAt(indices_7, i32(0))), u32(0));
    var i_5 : i32 = i32(1);
    while(i_5 < i32(16))
    {
        var index_2 : u32 = u32(ntIndexAt(indices_7, i_5));
        if(i_5 < i32(11))
        {
            bits_3[i32(0)] = ((bits_3[i32(0)]) | (((index_2 << (u32(i32(3) * i_5 - i32(1)))))));
        }
        else
        {
            bits_3[i32(1)] = ((bits_3[i32(1)]) | (((index_2 << (u32(i32(3) * i_5 - i32(33)))))));
        }
        i_5 = i_5 + i32(1);
    }
    return bits_3;
}

fn ntWordsOfMode4( first_3 : vec4<f32>,  second_3 : vec4<f32>,  indices_8 : vec2<u32>,  alphas_3 : vec2<f32>,  alphaIndices_1 : vec2<u32>,  more_0 : u32) -> vec4<u32>
{
    var _S43 : vec4<u32> = vec4<u32>(u32(3));
    var p_2 : vec4<u32> = (vec4<u32>(first_3) >> (_S43));
    var q_2 : vec4<u32> = (vec4<u32>(second_3) >> (_S43));
    var a_2 : vec2<u32> = (vec2<u32>(alphas_3) >> (vec2<u32>(u32(2))));
    var _S44 : bool = more_0 == u32(1);
    var _S45 : vec2<u32>;
    if(_S44)
    {
        _S45 = alphaIndices_1;
    }
    else
    {
        _S45 = indices_8;
    }
    var two_0 : u32 = ntTwoBits(_S45);
    if(_S44)
    {
        _S45 = indices_8;
    }
    else
    {
        _S45 = alphaIndices_1;
    }
    var three_0 : vec2<u32> = ntThreeBits(_S45);
    var words_2 : vec4<u32>;
    var _S46 : u32 = p_2.z;
    words_2[i32(0)] = (((((((((((u32(16) | (((more_0 << (u32(7))))))) | ((((p_2.x) << (u32(8))))))) | ((((q_2.x) << (u32(13))))))) | ((((p_2.y) << (u32(18))))))) | ((((q_2.y) << (u32(23))))))) | (((_S46 << (u32(28))))));
    words_2[i32(1)] = (((((((((_S46 >> (u32(4)))) | ((((q_2.z) << (u32(1))))))) | ((((a_2.x) << (u32(6))))))) | ((((a_2.y) << (u32(12))))))) | (((two_0 << (u32(18))))));
    var _S47 : u32 = three_0.x;
    words_2[i32(2)] = (((two_0 >> (u32(14)))) | (((_S47 << (u32(17))))));
    words_2[i32(3)] = (((_S47 >> (u32(15)))) | ((((three_0.y) << (u32(17))))));
    return words_2;
}

fn ntBlockOfBC7( texels_4 : array<vec4<f32>, i32(16)>) -> vec4<u32>
{
    var k_1 : i32;
    var least_1 : f32 = 255.0f;
    var most_2 : f32 = 0.0f;
    var i_6 : i32 = i32(0);
    while(i_6 < i32(16))
    {
        var _S48 : f32 = texels_4[i_6].w;
        var _S49 : f32 = min(least_1, _S48);
        var _S50 : f32 = max(most_2, _S48);
        var _S51 : i32 = i_6 + i32(1);
        least_1 = _S49;
        most_2 = _S50;
        i_6 = _S51;
    }
    if(least_1 >= 255.0f)
    {
        i_6 = i32(1);
    }
    else
    {
        if(most_2 <= 0.0f)
        {
            i_6 = i32(0);
        }
        else
        {
            i_6 = i32(2);
        }
    }
    var first_4 : array<vec4<f32>, i32(7)>;
    var second_4 : array<vec4<f32>, i32(7)>;
    var indices_9 : array<vec2<u32>, i32(7)>;
    var errors_0 : array<f32, i32(7)>;
    var _S52 : i32;
    if(least_1 == most_2)
    {
        _S52 = i32(5);
    }
    else
    {
        _S52 = i32(7);
    }
    var search_4 : i32 = i32(0);
    while(search_4 < _S52)
    {
        var chosen_0 : array<vec4<f32>, i32(16)>;
        k_1 = i32(0);
        while(k_1 < i32(16))
        {
            chosen_0[k_1] = texels_4[k_1] * ntChannelsOf(search_4);
            k_1 = k_1 + i32(1);
        }
        var low_5 : vec4<f32>;
        var high_5 : vec4<f32>;
        var found_1 : vec2<u32>;
        var _S53 : f32 = ntSearch(chosen_0, search_4, i_6, &(low_5), &(high_5), &(found_1));
        errors_0[search_4] = _S53;
        first_4[search_4] = low_5;
        second_4[search_4] = high_5;
        indices_9[search_4] = found_1;
        search_4 = search_4 + i32(1);
    }
    var smallest_1 : f32 = errors_0[i32(0)];
    k_1 = i32(0);
    var pair_0 : i32 = i32(1);
    while(pair_0 < _S52)
    {
        var error_1 : f32 = errors_0[pair_0] + errors_0[pair_0 + i32(1)];
        if(error_1 < smallest_1)
        {
            smallest_1 = error_1;
            k_1 = pair_0;
        }
        pair_0 = pair_0 + i32(2);
    }
    if(k_1 == i32(0))
    {
        return ntWordsOfMode6(first_4[i32(0)], second_4[i32(0)], indices_9[i32(0)]);
    }
    var _S54 : i32 = k_1 + i32(1);
    var ends_0 : vec2<f32> = vec2<f32>(first_4[_S54].w, second_4[_S54].w);
    if(k_1 == i32(1))
    {
        return ntWordsOfMode5(first_4[i32(1)], second_4[i32(1)], indices_9[i32(1)], ends_0, indices_9[i32(2)]);
    }
    var more_1 : u32;
    if(k_1 == i32(3))
    {
        more_1 = u32(1);
    }
    else
    {
        more_1 = u32(0);
    }
    return ntWordsOfMode4(first_4[k_1], second_4[k_1], indices_9[k_1], ends_0, indices_9[_S54], more_1);
}

fn ntChannel( texel_0 : vec4<f32>,  channel_0 : i32) -> f32
{
    var _S55 : f32;
    if(channel_0 == i32(0))
    {
        _S55 = texel_0.x;
    }
    else
    {
        if(channel_0 == i32(1))
        {
            _S55 = texel_0.y;
        }
        else
        {
            if(channel_0 == i32(2))
            {
                _S55 = texel_0.z;
            }
            else
            {
                _S55 = texel_0.w;
            }
        }
    }
    return _S55;
}

fn ntBlockOfBC4( values_0 : array<f32, i32(16)>) -> vec2<u32>
{
    var low_6 : f32 = 255.0f;
    var high_6 : f32 = 0.0f;
    var i_7 : i32 = i32(0);
    while(i_7 < i32(16))
    {
        var _S56 : f32 = min(low_6, values_0[i_7]);
        var _S57 : f32 = max(high_6, values_0[i_7]);
        var _S58 : i32 = i_7 + i32(1);
        low_6 = _S56;
        high_6 = _S57;
        i_7 = _S58;
    }
    var words_3 : vec2<u32> = vec2<u32>((u32(high_6) | (((u32(low_6) << (u32(8)))))), u32(0));
    if((high_6 - low_6) < 0.5f)
    {
        return words_3;
    }
    var smallest_2 : f32 = 1.00000001504746622e+30f;
    var words_4 : vec2<u32> = words_3;
    var fit_1 : i32 = i32(0);
    while(fit_1 <= i32(2))
    {
        var found_2 : vec2<u32> = vec2<u32>((u32(high_6) | (((u32(low_6) << (u32(8)))))), u32(0));
        var k_2 : i32 = i32(0);
        var error_2 : f32 = 0.0f;
        var a_3 : f32 = 0.0f;
        var b_2 : f32 = 0.0f;
        var c_2 : f32 = 0.0f;
        var d_2 : f32 = 0.0f;
        var e_2 : f32 = 0.0f;
        while(k_2 < i32(16))
        {
            var step_0 : i32 = i32(clamp((high_6 - values_0[k_2]) / (high_6 - low_6) * 7.0f + 0.5f, 0.0f, 7.0f));
            var place_2 : f32 = f32(step_0) / 7.0f;
            var off_2 : f32 = high_6 + (low_6 - high_6) * place_2 - values_0[k_2];
            var error_3 : f32 = error_2 + off_2 * off_2;
            var _S59 : f32 = 1.0f - place_2;
            var a_4 : f32 = a_3 + _S59 * _S59;
            var b_3 : f32 = b_2 + _S59 * place_2;
            var c_3 : f32 = c_2 + place_2 * place_2;
            var d_3 : f32 = d_2 + _S59 * values_0[k_2];
            var e_3 : f32 = e_2 + place_2 * values_0[k_2];
            var index_3 : u32;
            if(step_0 == i32(0))
            {
                index_3 = u32(0);
            }
            else
            {
                if(step_0 == i32(7))
                {
                    index_3 = u32(1);
                }
                else
                {
                    index_3 = u32(step_0 + i32(1));
                }
            }
            var shift_0 : i32 = i32(16) + i32(3) * k_2;
            if(shift_0 < i32(32))
            {
                found_2[i32(0)] = ((found_2[i32(0)]) | (((index_3 << (u32(shift_0))))));
            }
            if(shift_0 >= i32(32))
            {
                found_2[i32(1)] = ((found_2[i32(1)]) | (((index_3 << (u32(shift_0 - i32(32)))))));
            }
            else
            {
                if(shift_0 > i32(29))
                {
                    found_2[i32(1)] = ((found_2[i32(1)]) | (((index_3 >> (u32(i32(32) - shift_0))))));
                }
            }
            k_2 = k_2 + i32(1);
            error_2 = error_3;
            a_3 = a_4;
            b_2 = b_3;
            c_2 = c_3;
            d_2 = d_3;
            e_2 = e_3;
        }
        var words_5 : vec2<u32>;
        if(error_2 < smallest_2)
        {
            smallest_2 = error_2;
            words_5 = found_2;
        }
        else
        {
            words_5 = words_4;
        }
        var determinant_1 : f32 = a_3 * c_2 - b_2 * b_2;
        if(determinant_1 < 0.00100000004749745f)
        {
            words_4 = words_5;
            break;
        }
        var high_7 : f32 = floor(clamp((c_2 * d_2 - b_2 * e_2) / determinant_1, 0.0f, 255.0f) + 0.5f);
        var low_7 : f32 = floor(clamp((a_3 * e_2 - b_2 * d_2) / determinant_1, 0.0f, 255.0f) + 0.5f);
        if((high_7 - low_7) < 0.5f)
        {
            words_4 = words_5;
            break;
        }
        var _S60 : i32 = fit_1 + i32(1);
        high_6 = high_7;
        low_6 = low_7;
        words_4 = words_5;
        fit_1 = _S60;
    }
    return words_4;
}

fn ntBlockOfChannel( texels_5 : array<vec4<f32>, i32(16)>,  channel_1 : i32) -> vec2<u32>
{
    var values_1 : array<f32, i32(16)>;
    var i_8 : i32 = i32(0);
    while(i_8 < i32(16))
    {
        values_1[i_8] = ntChannel(texels_5[i_8], channel_1);
        i_8 = i_8 + i32(1);
    }
    return ntBlockOfBC4(values_1);
}

fn ntEncodeBlock( block_0 : vec2<i32>)
{
    var _S61 : i32 = block_0.x;
    var _S62 : i32 = i32(4) * _S61;
    var _S63 : i32 = ((ntImage.width));
    var _S64 : bool;
    if(_S62 >= _S63)
    {
        _S64 = true;
    }
    else
    {
        var _S65 : i32 = i32(4) * block_0.y;
        var _S66 : i32 = ((ntImage.height));
        _S64 = _S65 >= _S66;
    }
    if(_S64)
    {
        return;
    }
    var texels_6 : array<vec4<f32>, i32(16)>;
    var i_9 : i32 = i32(0);
    while(i_9 < i32(16))
    {
        var _S67 : i32 = _S62 + ((i_9 & (i32(3))));
        var _S68 : i32 = ((ntImage.width));
        var _S69 : i32 = min(_S67, _S68 - i32(1));
        var _S70 : i32 = i32(4) * block_0.y + ((i_9 >> (u32(2))));
        var _S71 : i32 = ((ntImage.height));
        var _S72 : i32 = min(_S70, _S71 - i32(1));
        var _S73 : i32 = ((ntImage.first));
        var _S74 : i32 = ((ntImage.row));
        var word_0 : u32 = (ntLoad((_S73 + _S72 * _S74 + _S69)));
        texels_6[i_9] = vec4<f32>(vec4<u32>((word_0 & (u32(255))), (((word_0 >> (u32(8)))) & (u32(255))), (((word_0 >> (u32(16)))) & (u32(255))), (word_0 >> (u32(24)))));
        i_9 = i_9 + i32(1);
    }
    var _S75 : i32 = ((ntImage.firstBlock));
    var _S76 : i32 = block_0.y;
    var _S77 : i32 = ((ntImage.rowOfBlocks));
    var _S78 : i32 = _S75 + _S76 * _S77;
    var _S79 : i32 = ((ntImage.form));
    if(_S79 == i32(4))
    {
        i_9 = i32(2);
    }
    else
    {
        i_9 = i32(4);
    }
    var at_0 : i32 = _S78 + _S61 * i_9;
    var _S80 : i32 = ((ntImage.form));
    if(_S80 == i32(7))
    {
        var words_6 : vec4<u32> = ntBlockOfBC7(texels_6);
        ntStore((at_0), (words_6.x));
        ntStore((at_0 + i32(1)), (words_6.y));
        ntStore((at_0 + i32(2)), (words_6.z));
        ntStore((at_0 + i32(3)), (words_6.w));
        return;
    }
    var _S81 : i32 = ((ntImage.form));
    var two_1 : bool = _S81 == i32(5);
    if(two_1)
    {
        i_9 = i32(2);
    }
    else
    {
        i_9 = i32(1);
    }
    var part_0 : i32 = i32(0);
    while(part_0 < i_9)
    {
        var _S82 : array<vec4<f32>, i32(16)> = texels_6;
        var _S83 : i32;
        if(two_1)
        {
            _S83 = part_0;
        }
        else
        {
            var _S84 : i32 = ((ntImage.channel));
            _S83 = _S84;
        }
        var words_7 : vec2<u32> = ntBlockOfChannel(_S82, _S83);
        var _S85 : i32 = at_0 + i32(2) * part_0;
        ntStore((_S85), (words_7.x));
        ntStore((_S85 + i32(1)), (words_7.y));
        part_0 = part_0 + i32(1);
    }
    return;
}
