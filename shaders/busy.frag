// Work for the GPU that shows nothing but poison: the reference client's --gpu-ms draws with it before the content.
precision highp float;

uniform vec2 size;
uniform float alpha;
varying vec2 v_coords;

void main() {
    float sum = 0.0;
    for (int i = 0; i < 256; i++) {
        sum += sin(sum + v_coords.x + float(i));
    }
    // Never true, which no compiler can know.
    float green = sum > 1.0e30 ? 1.0 : 0.0;
    gl_FragColor = vec4(1.0, green, 1.0, 1.0) * alpha;
}
