// The buttons that cancel, retry and delete a job, in the list and on the job page.

import { cancelJob, deleteJob, retryJob } from "./api.js";
import { confirmAction } from "./confirm-dialog.js";
import { announce, clearError, el, showError } from "./dom.js";
import { canCancel, canRetry, isTerminal, jobTitle, shortId } from "./job.js";

/**
 * The buttons of a job (`nodes`), and `update(job)`, which shows those that its status allows. `onDone` is called with
 * the action ("cancel", "retry" or "delete") and the job id.
 */
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
    // Hiding a focused button would lose the focus.
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
    text: `This deletes job ${shortId(id)} and all its data${isTerminal(job) ? "" : ", and cancels its tasks"}. This cannot be undone.`,
    action: "Delete job",
  });
  if (!isConfirmed) return;
  await deleteJob(id);
  announce(`Deleted ${jobTitle(job)}.`);
  onDone("delete", id);
}

/** Ignores clicks while `action` runs. Uses `aria-disabled`, since a disabled button would lose the focus. */
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
