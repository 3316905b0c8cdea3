// Generated from on_load.slang; do not edit.

int ntRepeat(int texel_0, int side_0)
{
    return (ntWrap((texel_0 - side_0 * int(floor(float(texel_0) / float(side_0)))), (side_0)));
}

float ntSrgbOf(float light_0)
{
    float _S1;
    if(light_0 <= 0.00313080009073019)
    {
        _S1 = light_0 * 12.92000007629394531;
    }
    else
    {
        _S1 = 1.0549999475479126 * pow(max(light_0, 0.00313080009073019), 0.4166666567325592) - 0.05499999970197678;
    }
    return _S1;
}

vec3 ntFileNormal(vec3 decoded_0)
{
    float _S2 = NT_NORMAL_FREE_X;
    float _S3 = NT_NORMAL_FREE_Y;
    vec3 vector_0 = (decoded_0 * 2.0 - 1.0) * vec3(_S2, _S3, 1.0);
    float size_0 = length(vector_0);
    vec3 direction_0;
    if(size_0 > 9.99999997475242708e-07)
    {
        direction_0 = vector_0 / size_0;
    }
    else
    {
        direction_0 = vec3(0.0, 0.0, 1.0);
    }
    float _S4 = NT_NORMAL_HALF_ROOM;
    vec3 unit_0 = direction_0 * _S4 + 0.5;
    if(_S4 <= 0.0)
    {
        return decoded_0;
    }
    float _S5;
    if(_S2 > 0.5)
    {
        _S5 = unit_0.x;
    }
    else
    {
        _S5 = decoded_0.x;
    }
    float _S6;
    if(_S3 > 0.5)
    {
        _S6 = unit_0.y;
    }
    else
    {
        _S6 = decoded_0.y;
    }
    return vec3(_S5, _S6, unit_0.z);
}

vec4 ntTargetTexel(NtMaterial material_0, int kind_0)
{
//! with extra maps
    float open_0;
//! without
//! both
    if(kind_0 == 0)
    {
        vec3 color_0;
        if(NT_ENCODE_DIFFUSE == 1)
        {
            color_0 = vec3(ntSrgbOf(material_0.diffuse.x), ntSrgbOf(material_0.diffuse.y), ntSrgbOf(material_0.diffuse.z));
        }
        else
        {
            color_0 = material_0.diffuse;
        }
        if(NT_HAS_DIFFUSE == 0)
        {
            color_0 = vec3(1.0, 1.0, 1.0);
        }
        else
        {
        }
//! with extra maps
        if(NT_HAS_OPACITY == 1)
        {
            open_0 = material_0.opacity;
        }
        else
        {
            open_0 = 1.0;
        }
        return vec4(color_0, open_0);
//! without
        return vec4(color_0, 1.0);
//! both
    }
    if(kind_0 == 1)
    {
        return vec4(ntFileNormal(material_0.normal), 1.0);
    }
    if(kind_0 == 2)
    {
//! with extra maps
//! without
        float open_0;
//! both
        if(NT_HAS_OCCLUSION == 1)
        {
            open_0 = material_0.occlusion;
        }
        else
        {
            open_0 = 1.0;
        }
        float _S7;
        if(NT_HAS_ROUGHNESS == 1)
        {
            _S7 = material_0.roughness;
        }
        else
        {
            _S7 = 1.0;
        }
        return vec4(open_0, _S7, material_0.metallic, 1.0);
    }
//! with extra maps
    if(kind_0 == 3)
    {
        return vec4(material_0.emissive, 1.0);
    }
    return vec4(material_0.specular, material_0.displacement, material_0.extra, 1.0);
//! without
    return vec4(material_0.specular, material_0.displacement, 0.0, 1.0);
//! both
}

uint ntByteOf(float value_0)
{
    uint _S8;
    if(value_0 > 0.0)
    {
        _S8 = uint(min(value_0, 1.0) * 255.0 + 0.5);
    }
    else
    {
        _S8 = 0U;
    }
    return _S8;
}

uint ntWordOf(vec4 texel_1)
{
    return (((ntByteOf(texel_1.x)) | ((ntByteOf(texel_1.y)) << 8U)) | ((ntByteOf(texel_1.z)) << 16U)) | ((ntByteOf(texel_1.w)) << 24U);
}

void ntDecodeOnLoad(ivec2 id_0)
{
    int _S9 = id_0.x;
    int _S10 = ((ntRectangle.width));
    bool _S11;
    if(_S9 >= _S10)
    {
        _S11 = true;
    }
    else
    {
        int _S12 = id_0.y;
        int _S13 = ((ntRectangle.height));
        _S11 = _S12 >= _S13;
    }
    if(_S11)
    {
        return;
    }
    int _S14 = int(NT_MATERIAL_WIDTH);
    int _S15 = ((ntRectangle.lod));
    int _S16 = max(_S14 >> _S15, 1);
    int _S17 = int(NT_MATERIAL_HEIGHT);
    int _S18 = ((ntRectangle.lod));
    int _S19 = max(_S17 >> _S18, 1);
    ivec2 size_1 = ivec2(_S16, _S19);
    int _S20 = ((ntRectangle.x));
    int _S21 = ntRepeat(_S20 + _S9, _S16);
    int _S22 = ((ntRectangle.y));
    int _S23 = id_0.y;
    vec2 _S24 = (vec2(ivec2(_S21, ntRepeat(_S22 + _S23, _S19))) + 0.5) / vec2(size_1);
    int _S25 = ((ntRectangle.lod));
    NtMaterial _S26 = (ntDecode((_S24), (float(_S25))));
    int _S27 = ((ntRectangle.first));
    int _S28 = ((ntRectangle.row));
    int _S29 = _S27 + _S23 * _S28 + _S9;
    int target_0 = 0;
    while(target_0 < NT_NUM_TARGETS)
    {
        int _S30 = ((ntRectangle.layer));
        ntStore((_S29 + target_0 * _S30), (ntWordOf(ntTargetTexel(_S26, (ntTargetKind((target_0)))))));
        target_0 = target_0 + 1;
    }
    return;
}
