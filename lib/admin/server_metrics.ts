// The metrics of a server: its submissions, and the writes that stored them.

import type { Load } from "../http/handler.ts";
import { createCounter, createHistogram, type Family, gauge } from "./metrics.ts";

export class ServerMetrics {
  readonly #answers = createCounter(
    "reliable_email_submissions_total",
    "Submissions by the status of their answer.",
  );
  readonly #duration = createHistogram(
    "reliable_email_submission_duration_seconds",
    "From the headers of a submission to its 200, while the body arrives and the store writes.",
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  ).announce();
  readonly #groupEmails = createHistogram(
    "reliable_email_group_emails",
    "Submissions in one write to the store.",
    [1, 2, 4, 8, 16, 32, 64, 128, 256],
  ).announce();
  readonly #groupDuration = createHistogram(
    "reliable_email_group_duration_seconds",
    "Duration of one write of submissions to the store, including its fsync.",
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1],
  ).announce();

  readonly #filesMaxBytes: number;

  /** @param filesMaxBytes most bytes of files of the emails in the queue */
  constructor(filesMaxBytes: number) {
    this.#filesMaxBytes = filesMaxBytes;
    for (const status of [200, 400, 401, 500]) this.#answers.add(`{status="${status}"}`, 0);
  }

  /** A submission was answered, this long after its headers arrived. */
  readonly onAnswer = (status: number, elapsedMs: number): void => {
    this.#answers.add(`{status="${status}"}`);
    if (status === 200) this.#duration.observe(elapsedMs / 1000);
  };

  readonly onGroup = (emails: number, elapsedMs: number): void => {
    this.#groupEmails.observe(emails);
    this.#groupDuration.observe(elapsedMs / 1000);
  };

  families({ submissions, bytes }: Load): readonly Family[] {
    const filesHelp = "MAX_ATTACHMENT_BACKLOG: most bytes of files of the emails in the queue.";
    const bytesHelp = "Bytes of the bodies of submissions that have no answer yet.";
    return [
      this.#answers,
      this.#duration,
      gauge("reliable_email_submissions_in_progress", "Submissions that have no answer yet.", submissions),
      gauge("reliable_email_submissions_in_progress_bytes", bytesHelp, bytes),
      gauge("reliable_email_file_limit_bytes", filesHelp, this.#filesMaxBytes),
      this.#groupEmails,
      this.#groupDuration,
    ];
  }
}
