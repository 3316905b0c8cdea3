// Generated from on_load.slang; do not edit.

fn ntRepeat( texel_0 : i32,  side_0 : i32) -> i32
{
    return (ntWrap((texel_0 - side_0 * i32(floor(f32(texel_0) / f32(side_0)))), (side_0)));
}

fn ntSrgbOf( light_0 : f32) -> f32
{
    var _S1 : f32;
    if(light_0 <= 0.00313080009073019f)
    {
        _S1 = light_0 * 12.92000007629394531f;
    }
    else
    {
        _S1 = 1.0549999475479126f * pow(max(light_0, 0.00313080009073019f), 0.4166666567325592f) - 0.05499999970197678f;
    }
    return _S1;
}

fn ntFileNormal( decoded_0 : vec3<f32>) -> vec3<f32>
{
    var _S2 : f32 = NT_NORMAL_FREE_X;
    var _S3 : f32 = NT_NORMAL_FREE_Y;
    var vector_0 : vec3<f32> = (decoded_0 * vec3<f32>(2.0f) - vec3<f32>(1.0f)) * vec3<f32>(_S2, _S3, 1.0f);
    var size_0 : f32 = length(vector_0);
    var direction_0 : vec3<f32>;
    if(size_0 > 9.99999997475242708e-07f)
    {
        direction_0 = vector_0 / vec3<f32>(size_0);
    }
    else
    {
        direction_0 = vec3<f32>(0.0f, 0.0f, 1.0f);
    }
    var _S4 : f32 = NT_NORMAL_HALF_ROOM;
    var unit_0 : vec3<f32> = direction_0 * vec3<f32>(_S4) + vec3<f32>(0.5f);
    if(_S4 <= 0.0f)
    {
        return decoded_0;
    }
    var _S5 : f32;
    if(_S2 > 0.5f)
    {
        _S5 = unit_0.x;
    }
    else
    {
        _S5 = decoded_0.x;
    }
    var _S6 : f32;
    if(_S3 > 0.5f)
    {
        _S6 = unit_0.y;
    }
    else
    {
        _S6 = decoded_0.y;
    }
    return vec3<f32>(_S5, _S6, unit_0.z);
}

fn ntTargetTexel( material_0 : NtMaterial,  kind_0 : i32) -> vec4<f32>
{
//! with extra maps
    var open_0 : f32;
//! without
//! both
    if(kind_0 == i32(0))
    {
        var color_0 : vec3<f32>;
        if(NT_ENCODE_DIFFUSE == i32(1))
        {
            color_0 = vec3<f32>(ntSrgbOf(material_0.diffuse.x), ntSrgbOf(material_0.diffuse.y), ntSrgbOf(material_0.diffuse.z));
        }
        else
        {
            color_0 = material_0.diffuse;
        }
        if(NT_HAS_DIFFUSE == i32(0))
        {
            color_0 = vec3<f32>(1.0f, 1.0f, 1.0f);
        }
        else
        {
        }
//! with extra maps
        if(NT_HAS_OPACITY == i32(1))
        {
            open_0 = material_0.opacity;
        }
        else
        {
            open_0 = 1.0f;
        }
        return vec4<f32>(color_0, open_0);
//! without
        return vec4<f32>(color_0, 1.0f);
//! both
    }
    if(kind_0 == i32(1))
    {
        return vec4<f32>(ntFileNormal(material_0.normal), 1.0f);
    }
    if(kind_0 == i32(2))
    {
//! with extra maps
//! without
        var open_0 : f32;
//! both
        if(NT_HAS_OCCLUSION == i32(1))
        {
            open_0 = material_0.occlusion;
        }
        else
        {
            open_0 = 1.0f;
        }
        var _S7 : f32;
        if(NT_HAS_ROUGHNESS == i32(1))
        {
            _S7 = material_0.roughness;
        }
        else
        {
            _S7 = 1.0f;
        }
        return vec4<f32>(open_0, _S7, material_0.metallic, 1.0f);
    }
//! with extra maps
    if(kind_0 == i32(3))
    {
        return vec4<f32>(material_0.emissive, 1.0f);
    }
    return vec4<f32>(material_0.specular, material_0.displacement, material_0.extra, 1.0f);
//! without
    return vec4<f32>(material_0.specular, material_0.displacement, 0.0f, 1.0f);
//! both
}

fn ntByteOf( value_0 : f32) -> u32
{
    var _S8 : u32;
    if(value_0 > 0.0f)
    {
        _S8 = u32(min(value_0, 1.0f) * 255.0f + 0.5f);
    }
    else
    {
        _S8 = u32(0);
    }
    return _S8;
}

fn ntWordOf( texel_1 : vec4<f32>) -> u32
{
    return ((((((ntByteOf(texel_1.x)) | ((((ntByteOf(texel_1.y)) << (u32(8))))))) | ((((ntByteOf(texel_1.z)) << (u32(16))))))) | ((((ntByteOf(texel_1.w)) << (u32(24))))));
}

fn ntDecodeOnLoad( id_0 : vec2<i32>)
{
    var _S9 : i32 = id_0.x;
    var _S10 : i32 = ((ntRectangle.width));
    var _S11 : bool;
    if(_S9 >= _S10)
    {
        _S11 = true;
    }
    else
    {
        var _S12 : i32 = id_0.y;
        var _S13 : i32 = ((ntRectangle.height));
        _S11 = _S12 >= _S13;
    }
    if(_S11)
    {
        return;
    }
    var _S14 : i32 = i32(NT_MATERIAL_WIDTH);
    var _S15 : i32 = ((ntRectangle.lod));
    var _S16 : i32 = max((_S14 >> (u32(_S15))), i32(1));
    var _S17 : i32 = i32(NT_MATERIAL_HEIGHT);
    var _S18 : i32 = ((ntRectangle.lod));
    var _S19 : i32 = max((_S17 >> (u32(_S18))), i32(1));
    var size_1 : vec2<i32> = vec2<i32>(_S16, _S19);
    var _S20 : i32 = ((ntRectangle.x));
    var _S21 : i32 = ntRepeat(_S20 + _S9, _S16);
    var _S22 : i32 = ((ntRectangle.y));
    var _S23 : i32 = id_0.y;
    var _S24 : vec2<f32> = (vec2<f32>(vec2<i32>(_S21, ntRepeat(_S22 + _S23, _S19))) + vec2<f32>(0.5f)) / vec2<f32>(size_1);
    var _S25 : i32 = ((ntRectangle.lod));
    var _S26 : NtMaterial = (ntDecode((_S24), (f32(_S25))));
    var _S27 : i32 = ((ntRectangle.first));
    var _S28 : i32 = ((ntRectangle.row));
    var _S29 : i32 = _S27 + _S23 * _S28 + _S9;
    var target_0 : i32 = i32(0);
    while(target_0 < NT_NUM_TARGETS)
    {
        var _S30 : i32 = ((ntRectangle.layer));
        ntStore((_S29 + target_0 * _S30), (ntWordOf(ntTargetTexel(_S26, (ntTargetKind((target_0)))))));
        target_0 = target_0 + i32(1);
    }
    return;
}
