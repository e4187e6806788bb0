// The texture itself. With EXTERNAL it is one that the driver converts while it reads (YUV, foreign modifiers).
#ifdef EXTERNAL
#extension GL_OES_EGL_image_external : require
#define SAMPLER samplerExternalOES
#else
#define SAMPLER sampler2D
#endif

#ifdef GL_FRAGMENT_PRECISION_HIGH
precision highp float;
#else
precision mediump float;
#endif

uniform SAMPLER picture;
// 1 where the alpha channel of the texture says nothing, else 0.
uniform float opaque;
varying vec2 at;

void main() {
    vec4 color = texture2D(picture, at);
    gl_FragColor = vec4(color.rgb, max(color.a, opaque));
}
