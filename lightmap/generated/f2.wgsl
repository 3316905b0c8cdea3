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

fn ntNetwork( values_2 : ptr<function, array<f32, NT_LAYER_WIDTH>>) -> vec3<f32>
{
    var i_1 : i32;
    var _S7 : i32 = i32(2) * NT_NUM_PLANES;
    var _S8 : i32 = NT_NUM_SINE_LAYERS + i32(1);
    var inputCount_0 : i32 = NT_NUM_CHANNELS + i32(2) * NT_NUM_HARMONICS;
    var layer_0 : i32 = i32(0);
    var column_0 : i32 = _S7;
    while(layer_0 < _S8)
    {
        var last_0 : bool = layer_0 == (_S8 - i32(1));
        var _S9 : i32;
        if(last_0)
        {
            _S9 = i32(4);
        }
        else
        {
            _S9 = NT_NUM_NEURONS;
        }
        var outputs_0 : array<f32, NT_LAYER_WIDTH>;
        var row_0 : i32 = i32(0);
        while(row_0 < _S9)
        {
            var _S10 : vec4<f32> = (ntWeights((column_0)));
            i_1 = i32(0);
            var sum_0 : vec4<f32> = _S10;
            while(i_1 < inputCount_0)
            {
                var sum_1 : vec4<f32> = sum_0 + (ntWeights((column_0 + i32(1) + i_1))) * vec4<f32>((*values_2)[i_1]);
                i_1 = i_1 + i32(1);
                sum_0 = sum_1;
            }
            var column_1 : i32 = column_0 + (i32(1) + inputCount_0);
            var sum_2 : vec4<f32>;
            if(!last_0)
            {
                sum_2 = vec4<f32>(ntSine(sum_0.x), ntSine(sum_0.y), ntSine(sum_0.z), ntSine(sum_0.w));
            }
            else
            {
                sum_2 = sum_0;
            }
            outputs_0[row_0] = sum_2.x;
            outputs_0[row_0 + i32(1)] = sum_2.y;
            outputs_0[row_0 + i32(2)] = sum_2.z;
            outputs_0[row_0 + i32(3)] = sum_2.w;
            row_0 = row_0 + i32(4);
            column_0 = column_1;
        }
        i_1 = i32(0);
        while(i_1 < _S9)
        {
            (*values_2)[i_1] = outputs_0[i_1];
            i_1 = i_1 + i32(1);
        }
        var _S11 : i32 = NT_NUM_NEURONS;
        var _S12 : i32 = layer_0 + i32(1);
        inputCount_0 = _S11;
        layer_0 = _S12;
    }
    return vec3<f32>((*values_2)[i32(0)], (*values_2)[i32(1)], (*values_2)[i32(2)]);
}

fn ntDecode( uv_0 : vec2<f32>,  hours_1 : f32) -> vec3<f32>
{
    var _S13 : i32 = NT_LATENT_WIDTH;
    var _S14 : i32 = NT_LATENT_HEIGHT;
    var position_0 : vec2<f32> = uv_0 * vec2<f32>(f32(_S13), f32(_S14)) - vec2<f32>(0.5f);
    var corner_0 : vec2<f32> = floor(position_0);
    var _S15 : vec2<f32> = position_0 - corner_0;
    var values_3 : array<f32, NT_LAYER_WIDTH>;
    ntStart(&(values_3), hours_1);
    var which_0 : i32 = i32(0);
    while(which_0 < i32(4))
    {
        var _S16 : i32 = (which_0 & (i32(1)));
        var _S17 : i32 = (which_0 >> (u32(1)));
        var texel_1 : vec2<i32> = clamp(vec2<i32>(corner_0) + vec2<i32>(_S16, _S17), vec2<i32>(i32(0), i32(0)), vec2<i32>(_S13 - i32(1), _S14 - i32(1)));
        var across_0 : f32;
        if(_S16 == i32(0))
        {
            across_0 = 1.0f - _S15.x;
        }
        else
        {
            across_0 = _S15.x;
        }
        var down_0 : f32;
        if(_S17 == i32(0))
        {
            down_0 = 1.0f - _S15.y;
        }
        else
        {
            down_0 = _S15.y;
        }
        ntAddLatent(&(values_3), texel_1, across_0 * down_0);
        which_0 = which_0 + i32(1);
    }
    var _S18 : vec3<f32> = ntNetwork(&(values_3));
    return _S18;
}

fn ntLight( encoded_0 : vec3<f32>) -> vec3<f32>
{
    if(NT_HIGH_RANGE == i32(1))
    {
        return (exp(max(encoded_0, vec3<f32>(0.0f, 0.0f, 0.0f)) * vec3<f32>(NT_RANGE_LOG)) - vec3<f32>(1.0f)) * vec3<f32>(NT_RANGE_SCALE);
    }
    return clamp(encoded_0, vec3<f32>(0.0f, 0.0f, 0.0f), vec3<f32>(1.0f, 1.0f, 1.0f));
}

fn ntDecodeTexel( texel_2 : vec2<i32>,  hours_2 : f32) -> vec3<f32>
{
    var values_4 : array<f32, NT_LAYER_WIDTH>;
    ntStart(&(values_4), hours_2);
    ntAddLatent(&(values_4), texel_2, 1.0f);
    var _S19 : vec3<f32> = ntNetwork(&(values_4));
    return _S19;
}
