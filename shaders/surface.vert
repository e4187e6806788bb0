// A corner of a rectangle of a texture: where it is on the output, in pixels, and where in the texture.
uniform mat3 projection;
attribute vec4 corner;
varying vec2 at;

void main() {
    at = corner.zw;
    gl_Position = vec4((projection * vec3(corner.xy, 1.0)).xy, 0.0, 1.0);
}
