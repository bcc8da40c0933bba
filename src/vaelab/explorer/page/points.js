// A scatter of up to a million points, drawn with WebGL2.

const VERTEX = `#version 300 es
in vec2 place;
in vec4 colour;
uniform vec2 centre;
uniform vec2 scale;
uniform float size;
out vec4 shade;
void main() {
  gl_Position = colour.a > 0.0 ? vec4((place - centre) * scale, 0.0, 1.0) : vec4(2.0);
  gl_PointSize = size;
  shade = colour;
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 shade;
uniform float opacity;
out vec4 pixel;
void main() {
  float distance = length(gl_PointCoord - 0.5);
  float alpha = opacity * (1.0 - smoothstep(0.36, 0.5, distance));
  pixel = vec4(shade.rgb * alpha, alpha);
}`;

/** Draws points on a canvas of its own. */
export class Points {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: false });
    if (!gl) throw new Error("this browser draws no WebGL2, which the map needs; use another one.");
    this.gl = gl;
    /** @type {Float32Array} */
    this.points = new Float32Array(0);
    /** @type {Uint8Array} */
    this.shades = new Uint8Array(0);
    this.held = this.begin();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.held = this.begin();
      this.place(this.points);
      this.paint(this.shades);
    });
  }

  /** Sets the drawing up: at the start, and where the browser had to take its memory away. */
  begin() {
    const { gl } = this;
    const made = program(gl);
    gl.useProgram(made);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    return {
      program: made,
      places: this.attribute(made, "place", 2, gl.FLOAT),
      colours: this.attribute(made, "colour", 4, gl.UNSIGNED_BYTE),
    };
  }

  /** @param {Float32Array} points x, y, x, y, ... */
  place(points) {
    this.points = points;
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.held.places);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, points, this.gl.STATIC_DRAW);
  }

  /** @param {Uint8Array} colours four bytes a point; a point whose last byte is 0 is hidden */
  paint(colours) {
    this.shades = colours;
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.held.colours);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, colours, this.gl.DYNAMIC_DRAW);
  }

  /**
   * @param {[number, number]} centre what is in the middle
   * @param {[number, number]} scale from the plane's units to half the canvas
   * @param {number} size of a point, in pixels of the screen
   * @param {number} opacity of a point
   */
  draw(centre, scale, size, opacity) {
    const { gl } = this;
    gl.viewport(0, 0, gl.canvas.width, gl.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(gl.getUniformLocation(this.held.program, "centre"), ...centre);
    gl.uniform2f(gl.getUniformLocation(this.held.program, "scale"), ...scale);
    gl.uniform1f(gl.getUniformLocation(this.held.program, "size"), size);
    gl.uniform1f(gl.getUniformLocation(this.held.program, "opacity"), opacity);
    gl.drawArrays(gl.POINTS, 0, Math.min(this.points.length / 2, this.shades.length / 4));
  }

  /** @param {WebGLProgram} made @param {string} name @param {number} size @param {number} type */
  attribute(made, name, size, type) {
    const { gl } = this;
    const [at, buffer] = [gl.getAttribLocation(made, name), gl.createBuffer()];
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, type, type !== gl.FLOAT, 0, 0);
    return buffer;
  }
}

/** @param {WebGL2RenderingContext} gl */
function program(gl) {
  const made = gl.createProgram();
  for (const [type, text] of /** @type {[number, string][]} */ ([
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ])) {
    const shader = gl.createShader(type);
    if (!shader) throw new Error("the browser gave up drawing; load the page again.");
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) {
    throw new Error(`the map cannot be drawn here: ${gl.getProgramInfoLog(made)}`);
  }
  return made;
}
