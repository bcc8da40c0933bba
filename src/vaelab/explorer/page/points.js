// A scatter of up to a million points, and lines between some of them, drawn with WebGL2.

const VERTEX = `#version 300 es
layout(location = 0) in vec2 place;
layout(location = 1) in vec4 colour;
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

const LINE_VERTEX = `#version 300 es
layout(location = 0) in vec2 place;
uniform vec2 centre;
uniform vec2 scale;
void main() {
  gl_Position = vec4((place - centre) * scale, 0.0, 1.0);
}`;

const LINE_FRAGMENT = `#version 300 es
precision mediump float;
uniform vec4 tint;
out vec4 pixel;
void main() {
  pixel = tint;
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
    /** @type {Uint32Array} */
    this.ends = new Uint32Array(0);
    /** @type {number[]} */
    this.tint = [0, 0, 0, 0];
    this.held = this.begin();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.held = this.begin();
      this.place(this.points);
      this.paint(this.shades);
      this.join(this.ends, this.tint);
    });
  }

  /** Sets the drawing up: at the start, and where the browser had to take its memory away. */
  begin() {
    const { gl } = this;
    const made = program(gl, VERTEX, FRAGMENT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    return {
      program: made,
      lines: program(gl, LINE_VERTEX, LINE_FRAGMENT),
      places: this.attribute(0, 2, gl.FLOAT),
      colours: this.attribute(1, 4, gl.UNSIGNED_BYTE),
      ends: gl.createBuffer(),
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
   * @param {Uint32Array} ends of lines: the numbers of two points each
   * @param {number[]} tint their red, green and blue, and how opaque they are, from 0 to 1
   */
  join(ends, tint) {
    this.ends = ends;
    this.tint = tint;
    this.gl.bindBuffer(this.gl.ELEMENT_ARRAY_BUFFER, this.held.ends);
    this.gl.bufferData(this.gl.ELEMENT_ARRAY_BUFFER, ends, this.gl.DYNAMIC_DRAW);
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
    if (this.ends.length) {
      this.look(this.held.lines, centre, scale);
      const [red, green, blue, opacity] = this.tint;
      const tint = [red * opacity, green * opacity, blue * opacity, opacity];
      gl.uniform4fv(gl.getUniformLocation(this.held.lines, "tint"), tint);
      gl.drawElements(gl.LINES, this.ends.length, gl.UNSIGNED_INT, 0);
    }
    this.look(this.held.program, centre, scale);
    gl.uniform1f(gl.getUniformLocation(this.held.program, "size"), size);
    gl.uniform1f(gl.getUniformLocation(this.held.program, "opacity"), opacity);
    gl.drawArrays(gl.POINTS, 0, Math.min(this.points.length / 2, this.shades.length / 4));
  }

  /** @param {WebGLProgram} made @param {[number, number]} centre @param {[number, number]} scale */
  look(made, centre, scale) {
    const { gl } = this;
    gl.useProgram(made);
    gl.uniform2f(gl.getUniformLocation(made, "centre"), ...centre);
    gl.uniform2f(gl.getUniformLocation(made, "scale"), ...scale);
  }

  /** @param {number} at @param {number} size @param {number} type */
  attribute(at, size, type) {
    const { gl } = this;
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, type, type !== gl.FLOAT, 0, 0);
    return buffer;
  }
}

/** @param {WebGL2RenderingContext} gl @param {string} vertex @param {string} fragment */
function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [type, text] of /** @type {[number, string][]} */ ([
    [gl.VERTEX_SHADER, vertex],
    [gl.FRAGMENT_SHADER, fragment],
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
