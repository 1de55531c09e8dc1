// The pictures of “Try it”, drawn here so that nothing has to be loaded.

const SIDE = 160;
const SHAPES = [
  { name: "chair.png", sky: "#efe7da", ground: "#d8cab5", draw: chair },
  { name: "mug.png", sky: "#dfeaea", ground: "#bfd3d3", draw: mug },
  { name: "lamp.png", sky: "#e4e5f1", ground: "#c8cbe0", draw: lamp },
  { name: "cube.png", sky: "#f3e3de", ground: "#e0c6bd", draw: cube },
];
/** Four small pictures. */
export function drawPictures() {
  return Promise.all(SHAPES.map(drawPicture));
}

function drawPicture({ name, sky, ground, draw }) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const g = canvas.getContext("2d");
  const background = g.createLinearGradient(0, 0, 0, SIDE);
  background.addColorStop(0.7, sky);
  background.addColorStop(0.72, ground);
  g.fillStyle = background;
  g.fillRect(0, 0, SIDE, SIDE);
  g.scale(SIDE / 100, SIDE / 100);
  draw(g);
  return new Promise((resolve) => {
    canvas.toBlob((blob) => resolve(new File([blob], name, { type: "image/png" })), "image/png");
  });
}

function box(g, colour, x, y, width, height, radius = 2) {
  g.fillStyle = colour;
  g.beginPath();
  g.roundRect(x, y, width, height, radius);
  g.fill();
}

function oval(g, colour, x, y, a, b) {
  g.fillStyle = colour;
  g.beginPath();
  g.ellipse(x, y, a, b, 0, 0, 2 * Math.PI);
  g.fill();
}

function face(g, colour, ...points) {
  g.fillStyle = colour;
  g.beginPath();
  for (const [x, y] of points) g.lineTo(x, y);
  g.fill();
}

function chair(g) {
  for (const x of [34, 62]) box(g, "#8c542c", x, 16, 4, 44);
  for (const y of [16, 30, 43]) box(g, "#b0703e", 34, y, 32, 7, 3);
  for (const x of [32, 64]) box(g, "#8c542c", x, 60, 5, 27);
  box(g, "#c4824c", 30, 55, 41, 8, 3);
}

function mug(g) {
  g.strokeStyle = "#2c626a";
  g.lineWidth = 5;
  g.beginPath();
  g.arc(68, 52, 11, 0, 2 * Math.PI);
  g.stroke();
  box(g, "#3a7880", 25, 30, 43, 50, 9);
  oval(g, "#54929a", 46.5, 31, 21.5, 5.5);
  oval(g, "#4a3024", 46.5, 31.5, 18, 4);
}

function lamp(g) {
  box(g, "#585a6e", 48.5, 42, 3, 42);
  box(g, "#46485c", 36, 81, 28, 5, 2.5);
  face(g, "#e9b249", [40, 18], [60, 18], [74, 47], [26, 47]);
  oval(g, "#fbe09a", 50, 47, 24, 3.5);
}

function cube(g) {
  face(g, "#e39a74", [50, 22], [78, 36], [50, 50], [22, 36]);
  face(g, "#c8734a", [22, 36], [50, 50], [50, 84], [22, 68]);
  face(g, "#a95a35", [78, 36], [50, 50], [50, 84], [78, 68]);
}
