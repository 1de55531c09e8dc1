// The pictures of “Try it”, drawn on a canvas so that no files have to be loaded.

const SIZE_PX = 160;
const SHAPES = [
  { name: "chair.png", sky: "#efe7da", ground: "#d8cab5", draw: chair },
  { name: "mug.png", sky: "#dfeaea", ground: "#bfd3d3", draw: mug },
  { name: "lamp.png", sky: "#e4e5f1", ground: "#c8cbe0", draw: lamp },
  { name: "cube.png", sky: "#f3e3de", ground: "#e0c6bd", draw: cube },
];

/** Draws the sample pictures as PNG files. */
export function drawSamplePictures() {
  return Promise.all(SHAPES.map(drawPicture));
}

function drawPicture({ name, sky, ground, draw }) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIZE_PX;
  const context = canvas.getContext("2d");
  const background = context.createLinearGradient(0, 0, 0, SIZE_PX);
  background.addColorStop(0.7, sky);
  background.addColorStop(0.72, ground);
  context.fillStyle = background;
  context.fillRect(0, 0, SIZE_PX, SIZE_PX);
  context.scale(SIZE_PX / 100, SIZE_PX / 100);
  draw(context);
  return new Promise((resolve) => {
    canvas.toBlob((blob) => resolve(new File([blob], name, { type: "image/png" })), "image/png");
  });
}

function fillBox(context, colour, x, y, width, height, radius = 2) {
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(x, y, width, height, radius);
  context.fill();
}

function fillOval(context, colour, x, y, radiusX, radiusY) {
  context.fillStyle = colour;
  context.beginPath();
  context.ellipse(x, y, radiusX, radiusY, 0, 0, 2 * Math.PI);
  context.fill();
}

function fillPolygon(context, colour, ...points) {
  context.fillStyle = colour;
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.fill();
}

function chair(context) {
  for (const x of [34, 62]) fillBox(context, "#8c542c", x, 16, 4, 44);
  for (const y of [16, 30, 43]) fillBox(context, "#b0703e", 34, y, 32, 7, 3);
  for (const x of [32, 64]) fillBox(context, "#8c542c", x, 60, 5, 27);
  fillBox(context, "#c4824c", 30, 55, 41, 8, 3);
}

function mug(context) {
  context.strokeStyle = "#2c626a";
  context.lineWidth = 5;
  context.beginPath();
  context.arc(68, 52, 11, 0, 2 * Math.PI);
  context.stroke();
  fillBox(context, "#3a7880", 25, 30, 43, 50, 9);
  fillOval(context, "#54929a", 46.5, 31, 21.5, 5.5);
  fillOval(context, "#4a3024", 46.5, 31.5, 18, 4);
}

function lamp(context) {
  fillBox(context, "#585a6e", 48.5, 42, 3, 42);
  fillBox(context, "#46485c", 36, 81, 28, 5, 2.5);
  fillPolygon(context, "#e9b249", [40, 18], [60, 18], [74, 47], [26, 47]);
  fillOval(context, "#fbe09a", 50, 47, 24, 3.5);
}

function cube(context) {
  fillPolygon(context, "#e39a74", [50, 22], [78, 36], [50, 50], [22, 36]);
  fillPolygon(context, "#c8734a", [22, 36], [50, 50], [50, 84], [22, 68]);
  fillPolygon(context, "#a95a35", [78, 36], [50, 50], [50, 84], [78, 68]);
}
