// “Try it”: simulates a worker, to show a whole job without any other program.

import { call } from "./api.js";

const STEPS = [
  [6, "Fetching the picture"],
  [18, "Cutting out the object"],
  [34, "Estimating its depth"],
  [52, "Building the mesh"],
  [70, "Smoothing the mesh"],
  [86, "Painting the texture"],
  [96, "Packing the model"],
];
const STEP_MS = 800;
const START_INTERVAL_MS = 1700;
const CUBE_MODEL = {
  url: "/web/cube.glb",
  size: 1464,
  mime_type: "model/gltf-binary",
  rendered_image: { url: "/web/cube.svg" },
};

/** Processes all files of `job` concurrently, with staggered starts. */
export async function simulateWorker(job) {
  await Promise.all(job.files.map((file, index) => processFile(job, file, index * START_INTERVAL_MS)));
}

async function processFile(job, file, delay) {
  await sleep(delay);
  const path = `/api/v1/jobs/${job.id}/files/${file.id}`;
  try {
    for (const [progress, message] of STEPS) {
      await call("POST", `${path}/progress`, { progress, message });
      await sleep(STEP_MS * (0.6 + 0.8 * Math.random()));
    }
    const filename = file.name.replace(/\.[^.]*$/, ".glb");
    await call("PUT", `${path}/result`, { status: "completed", result: { filename, ...CUBE_MODEL } });
  } catch (error) {
    // A cancelled job rejects further reports.
    if (error.status !== 409) throw error;
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
