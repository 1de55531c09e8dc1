// What one does with a job, from the list or from its own page.

import { cancelJob, deleteJob, retryJob } from "./api.js";
import { confirmAction } from "./confirm-dialog.js";
import { announce, clearError, el, showError } from "./dom.js";
import { canCancel, canRetry, isTerminal, jobTitle, shortId } from "./job.js";

/** Buttons for a job, and what shows those that it allows now. `after` hears what was done. */
export function jobButtons(id, jobs, onDone) {
  const currentJob = () => jobs.get(id);
  const button = (label, action, kind = "") =>
    el("button", { type: "button", class: `small ${kind}`, onclick: (event) => runOnce(event.currentTarget, action) }, label);
  const cancel = button("Cancel", async () => {
    await cancelJob(id);
    await jobs.load(id);
    announce(`Cancelled ${jobTitle(currentJob())}.`);
    onDone("cancel", id);
  });
  const retry = button("Retry", async () => {
    jobs.resetHistory(id);
    jobs.upsert(await retryJob(id));
    announce(`Retrying the failed files of ${jobTitle(currentJob())}.`);
    onDone("retry", id);
  });
  const remove = button("Delete", () => confirmDelete(id, currentJob(), onDone), "danger");
  const update = (job) => {
    const focused = [cancel, retry].find((button) => button === document.activeElement);
    cancel.hidden = !canCancel(job);
    retry.hidden = !canRetry(job);
    // What has the focus must not vanish with it.
    if (focused?.hidden) [cancel, retry, remove].find((button) => !button.hidden).focus();
    for (const [button, verb] of [[cancel, "Cancel"], [retry, "Retry"], [remove, "Delete"]]) {
      button.setAttribute("aria-label", `${verb} ${jobTitle(job)}`);
    }
  };
  return { nodes: [cancel, retry, remove], update };
}

async function confirmDelete(id, job, onDone) {
  const isConfirmed = await confirmAction({
    title: `Delete ${jobTitle(job)}?`,
    text: `Job ${shortId(id)} and all that is kept of it will be gone${isTerminal(job) ? "" : "; its work is cancelled"}. This cannot be undone.`,
    action: "Delete job",
  });
  if (!isConfirmed) return;
  await deleteJob(id);
  announce(`Deleted ${jobTitle(job)}.`);
  onDone("delete", id);
}

/** Once at a time. A button that is disabled would lose the focus, so it only says that it is. */
async function runOnce(button, action) {
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true";
  clearError();
  try {
    await action();
  } catch (error) {
    showError(error);
  } finally {
    button.ariaDisabled = null;
  }
}
