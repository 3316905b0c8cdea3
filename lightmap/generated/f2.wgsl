// Generated from f2.slang; do not edit.

fn ntSine( turns_0 : f32) -> f32
{
    return sin(6.28318548202514648f * (turns_0 - floor(turns_0 + 0.5f)));
}

fn ntStart( values_0 : ptr<function, array<f32, NT_LAYER_WIDTH>>,  hours_0 : f32)
{
    var i_0 : i32 = i32(0);
    while(i_0 < NT_LAYER_WIDTH)
    {
        (*values_0)[i_0] = 0.0f;
        i_0 = i_0 + i32(1);
    }
    var turns_1 : f32 = hours_0 / 24.0f;
    var turns_2 : f32 = turns_1 - floor(turns_1);
    var k_0 : i32 = i32(0);
    while(k_0 < NT_NUM_HARMONICS)
    {
        var _S1 : i32 = k_0 + i32(1);
        var angle_0 : f32 = turns_2 * f32(_S1);
        var _S2 : i32 = NT_NUM_CHANNELS + i32(2) * k_0;
        (*values_0)[_S2] = ntSine(angle_0);
        (*values_0)[_S2 + i32(1)] = ntSine(angle_0 + 0.25f);
        k_0 = _S1;
    }
    return;
}

fn ntAddLatent( values_1 : ptr<function, array<f32, NT_LAYER_WIDTH>>,  texel_0 : vec2<i32>,  share_0 : f32)
{
    var _S3 : i32 = NT_NUM_PLANES;
    var plane_0 : i32 = i32(0);
    while(plane_0 < _S3)
    {
        var _S4 : vec4<f32> = (ntWeights((plane_0))) + (ntWeights((_S3 + plane_0))) * (ntFetchTexel((plane_0), (texel_0), 0));
        var _S5 : i32 = i32(4) * plane_0;
        var _S6 : i32 = min(i32(4), NT_NUM_CHANNELS - _S5);
        var k_1 : i32 = i32(0);
        while(k_1 < _S6)
        {
            (*values_1)[_S5 + k_1] = (*values_1)[_S5 + k_1] + share_0 * _S4[k_1];
            k_1 = k_1 + i32(1);
        }
        plane_0 = plane_0 + i32(1);
    }
    return;
}

fn ntBetween( first_0 : i32,  second_0 : i32,  share_1 : f32) -> vec3<f32>
{
    var column_0 : vec4<f32> = (ntWeights((first_0))) * vec4<f32>((1.0f - share_1)) + (ntWeights((second_0))) * vec4<f32>(share_1);
    return vec3<f32>(column_0.x, column_0.y, column_0.z);
}

fn ntFrameColors( values_2 : array<f32, NT_LAYER_WIDTH>,  first_1 : i32,  second_1 : i32,  count_0 : i32,  share_2 : f32) -> vec3<f32>
{
    const _S7 : vec3<f32> = vec3<f32>(0.0f, 0.0f, 0.0f);
    var i_1 : i32 = i32(0);
    var sum_0 : vec3<f32> = _S7;
    while(i_1 < count_0)
    {
        var sum_1 : vec3<f32> = sum_0 + ntBetween(first_1 + i_1, second_1 + i_1, share_2) * vec3<f32>(values_2[i_1]);
        i_1 = i_1 + i32(1);
        sum_0 = sum_1;
    }
    return sum_0;
}

fn ntNetwork( values_3 : ptr<function, array<f32, NT_LAYER_WIDTH>>,  hours_1 : f32) -> vec3<f32>
{
    var i_2 : i32;
    var column_1 : i32 = i32(2) * NT_NUM_PLANES;
    var _S8 : i32 = NT_NUM_CHANNELS;
    var _S9 : i32 = _S8 + i32(2) * NT_NUM_HARMONICS;
    var _S10 : i32 = NT_NUM_SINE_LAYERS;
    var layers_0 : i32 = _S10 + i32(1);
    const _S11 : vec3<f32> = vec3<f32>(0.0f, 0.0f, 0.0f);
    var _S12 : i32 = NT_NUM_FRAMES;
    var _S13 : bool = _S12 > i32(0);
    var first_2 : i32;
    var second_2 : i32;
    var layers_1 : i32;
    var column_2 : i32;
    var share_3 : f32;
    var color_0 : vec3<f32>;
    if(_S13)
    {
        var turns_3 : f32 = hours_1 / 24.0f;
        var position_0 : f32 = (turns_3 - floor(turns_3)) * f32(_S12);
        var _S14 : i32 = min(i32(position_0), _S12 - i32(1));
        var _S15 : i32 = _S14 + i32(1);
        if(_S15 == _S12)
        {
            first_2 = i32(0);
        }
        else
        {
            first_2 = _S15;
        }
        var share_4 : f32 = position_0 - f32(_S14);
        var each_0 : i32 = i32(1) + _S8;
        var a_0 : i32 = column_1 + _S14 * each_0;
        var b_0 : i32 = column_1 + first_2 * each_0;
        var color_1 : vec3<f32> = ntBetween(a_0, b_0, share_4) + ntFrameColors((*values_3), a_0 + i32(1), b_0 + i32(1), _S8, share_4);
        var column_3 : i32 = column_1 + _S12 * each_0;
        var layers_2 : i32 = layers_0 - i32(1);
        var _S16 : i32 = first_2;
        first_2 = _S14;
        second_2 = _S16;
        share_3 = share_4;
        layers_1 = layers_2;
        column_2 = column_3;
        color_0 = color_1;
    }
    else
    {
        first_2 = i32(0);
        second_2 = i32(0);
        share_3 = 0.0f;
        layers_1 = layers_0;
        column_2 = column_1;
        color_0 = _S11;
    }
    var inputCount_0 : i32 = _S9;
    var layer_0 : i32 = i32(0);
    while(layer_0 < layers_1)
    {
        var last_0 : bool = layer_0 == _S10;
        var _S17 : i32;
        if(last_0)
        {
            _S17 = i32(4);
        }
        else
        {
            _S17 = NT_NUM_NEURONS;
        }
        var outputs_0 : array<f32, NT_LAYER_WIDTH>;
        var row_0 : i32 = i32(0);
        while(row_0 < _S17)
        {
            var _S18 : vec4<f32> = (ntWeights((column_2)));
            i_2 = i32(0);
            var sum_2 : vec4<f32> = _S18;
            while(i_2 < inputCount_0)
            {
                var sum_3 : vec4<f32> = sum_2 + (ntWeights((column_2 + i32(1) + i_2))) * vec4<f32>((*values_3)[i_2]);
                i_2 = i_2 + i32(1);
                sum_2 = sum_3;
            }
            var column_4 : i32 = column_2 + (i32(1) + inputCount_0);
            var sum_4 : vec4<f32>;
            if(!last_0)
            {
                sum_4 = vec4<f32>(ntSine(sum_2.x), ntSine(sum_2.y), ntSine(sum_2.z), ntSine(sum_2.w));
            }
            else
            {
                sum_4 = sum_2;
            }
            outputs_0[row_0] = sum_4.x;
            outputs_0[row_0 + i32(1)] = sum_4.y;
            outputs_0[row_0 + i32(2)] = sum_4.z;
            outputs_0[row_0 + i32(3)] = sum_4.w;
            row_0 = row_0 + i32(4);
            column_2 = column_4;
        }
        i_2 = i32(0);
        while(i_2 < _S17)
        {
            (*values_3)[i_2] = outputs_0[i_2];
            i_2 = i_2 + i32(1);
        }
        var _S19 : i32 = NT_NUM_NEURONS;
        var _S20 : i32 = layer_0 + i32(1);
        inputCount_0 = _S19;
        layer_0 = _S20;
    }
    if(_S13)
    {
        var each_1 : i32 = NT_NUM_NEURONS;
        return color_0 + ntFrameColors((*values_3), column_2 + first_2 * each_1, column_2 + second_2 * each_1, each_1, share_3);
    }
    return vec3<f32>((*values_3)[i32(0)], (*values_3)[i32(1)], (*values_3)[i32(2)]);
}

fn ntDecode( uv_0 : vec2<f32>,  hours_2 : f32) -> vec3<f32>
{
    var _S21 : i32 = NT_LATENT_WIDTH;
    var _S22 : i32 = NT_LATENT_HEIGHT;
    var position_1 : vec2<f32> = uv_0 * vec2<f32>(f32(_S21), f32(_S22)) - vec2<f32>(0.5f);
    var corner_0 : vec2<f32> = floor(position_1);
    var _S23 : vec2<f32> = position_1 - corner_0;
    var values_4 : array<f32, NT_LAYER_WIDTH>;
    ntStart(&(values_4), hours_2);
    var which_0 : i32 = i32(0);
    while(which_0 < i32(4))
    {
        var _S24 : i32 = (which_0 & (i32(1)));
        var _S25 : i32 = (which_0 >> (u32(1)));
        var texel_1 : vec2<i32> = clamp(vec2<i32>(corner_0) + vec2<i32>(_S24, _S25), vec2<i32>(i32(0), i32(0)), vec2<i32>(_S21 - i32(1), _S22 - i32(1)));
        var across_0 : f32;
        if(_S24 == i32(0))
        {
            across_0 = 1.0f - _S23.x;
        }
        else
        {
            across_0 = _S23.x;
        }
        var down_0 : f32;
        if(_S25 == i32(0))
        {
            down_0 = 1.0f - _S23.y;
        }
        else
        {
            down_0 = _S23.y;
        }
        ntAddLatent(&(values_4), texel_1, across_0 * down_0);
        which_0 = which_0 + i32(1);
    }
    var _S26 : vec3<f32> = ntNetwork(&(values_4), hours_2);
    return _S26;
}

fn ntLight( encoded_0 : vec3<f32>) -> vec3<f32>
{
    if(NT_HIGH_RANGE == i32(1))
    {
        return (exp(max(encoded_0, vec3<f32>(0.0f, 0.0f, 0.0f)) * vec3<f32>(NT_RANGE_LOG)) - vec3<f32>(1.0f)) * vec3<f32>(NT_RANGE_SCALE);
    }
    return clamp(encoded_0, vec3<f32>(0.0f, 0.0f, 0.0f), vec3<f32>(1.0f, 1.0f, 1.0f));
}

fn ntDecodeTexel( texel_2 : vec2<i32>,  hours_3 : f32) -> vec3<f32>
{
    var values_5 : array<f32, NT_LAYER_WIDTH>;
    ntStart(&(values_5), hours_3);
    ntAddLatent(&(values_5), texel_2, 1.0f);
    var _S27 : vec3<f32> = ntNetwork(&(values_5), hours_3);
    return _S27;
}
