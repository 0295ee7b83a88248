// The files of an email, each with a button that saves it.

import type { FileRow } from "../protocol.ts";
import { Refused, save } from "./client.ts";
import { button, element } from "./dom.ts";
import { bytes } from "./format.ts";

/** @param addressOf the path that saves the file of this number; without it, files cannot be saved */
export function fileList(files: readonly FileRow[], addressOf?: (number: number) => string): HTMLElement {
  return element(
    "ul",
    { class: "files" },
    ...files.map((file, index) => entryOf(file, addressOf?.(index + 1))),
  );
}

function entryOf({ name, type, bytes: size, contentId }: FileRow, address?: string): HTMLElement {
  const message = element("small", { class: "error", role: "status" });
  async function saveFrom(one: string): Promise<void> {
    message.textContent = "";
    try {
      await save(one, name);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      message.textContent = error.message;
    }
  }
  const facts = [type, bytes(size), ...(contentId === undefined ? [] : [`cid:${contentId}`])];
  return element(
    "li",
    {},
    element("span", {}, name, " ", element("small", {}, facts.join(", "))),
    address !== undefined && button("Save", () => void saveFrom(address), { "aria-label": `Save ${name}` }),
    message,
  );
}
