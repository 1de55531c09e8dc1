// What one does with a job, from the list or from its own page.

import { cancelJob, deleteJob, retryJob } from "./api.js";
import { ask } from "./dialog.js";
import { announce, complain, el, stopComplaining } from "./dom.js";
import { isOver, mayCancel, mayRetry, shortId, titleOf } from "./job.js";

/** Buttons for a job, and what shows those that it allows now. `after` hears what was done. */
export function buttonsFor(id, jobs, after) {
  const of = () => jobs.get(id);
  const button = (label, act, kind = "") =>
    el("button", { type: "button", class: `small ${kind}`, onclick: (event) => run(event.currentTarget, act) }, label);
  const cancel = button("Cancel", async () => {
    await cancelJob(id);
    await jobs.read(id);
    announce(`Cancelled ${titleOf(of())}.`);
    after("cancel", id);
  });
  const retry = button("Retry", async () => {
    jobs.reopen(id);
    jobs.take(await retryJob(id));
    announce(`Retrying the failed files of ${titleOf(of())}.`);
    after("retry", id);
  });
  const remove = button("Delete", () => confirmDelete(id, of(), after), "danger");
  const update = (job) => {
    const focused = [cancel, retry].find((it) => it === document.activeElement);
    cancel.hidden = !mayCancel(job);
    retry.hidden = !mayRetry(job);
    // What has the focus must not vanish with it.
    if (focused?.hidden) [cancel, retry, remove].find((it) => !it.hidden).focus();
    for (const [it, verb] of [[cancel, "Cancel"], [retry, "Retry"], [remove, "Delete"]]) {
      it.setAttribute("aria-label", `${verb} ${titleOf(job)}`);
    }
  };
  return { nodes: [cancel, retry, remove], update };
}

async function confirmDelete(id, job, after) {
  const isWanted = await ask({
    title: `Delete ${titleOf(job)}?`,
    text: `Job ${shortId(id)} and all that is kept of it will be gone${isOver(job) ? "" : "; its work is cancelled"}. This cannot be undone.`,
    action: "Delete job",
  });
  if (!isWanted) return;
  await deleteJob(id);
  announce(`Deleted ${titleOf(job)}.`);
  after("delete", id);
}

/** Once at a time. A button that is disabled would lose the focus, so it only says that it is. */
async function run(button, act) {
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true";
  stopComplaining();
  try {
    await act();
  } catch (error) {
    complain(error);
  } finally {
    button.ariaDisabled = null;
  }
}
