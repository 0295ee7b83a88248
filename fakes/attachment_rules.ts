// The providers' rules for attached files, and the record that a fake keeps of a file: everything but its content.

export interface Attachment {
  readonly name: string;
  /** The declared type, or that of the name's extension if none was declared. */
  readonly type: string;
  /** Without `cid:`. */
  readonly contentId?: string;
  /** Length of the decoded content. */
  readonly bytes: number;
  /** Digest of the decoded content, in hex. */
  readonly sha256: string;
}

/** An attachment as it arrived, with the content in base64. */
export interface AttachedFile {
  readonly name: string;
  readonly type: string | undefined;
  readonly contentId: string | undefined;
  readonly content: string;
}

/** The record of a file; undefined if its content is not standard base64 with its padding. */
export function readAttachment({ name, type, contentId, content }: AttachedFile): Attachment | undefined {
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.fromBase64(content, { lastChunkHandling: "strict" });
  } catch {
    return undefined;
  }
  return {
    name,
    type: type ?? typeOfName(name) ?? "application/octet-stream",
    ...(contentId && { contentId }),
    bytes: bytes.byteLength,
    sha256: new Bun.CryptoHasher("sha256").update(bytes).digest("hex"),
  };
}

/** In lower case and without the dot; empty if there is none. */
export function extensionOf(name: string): string {
  return name.includes(".") ? name.slice(name.lastIndexOf(".") + 1).toLowerCase() : "";
}

/**
 * Whether the type is not the one that the name's extension stands for. No type contradicts an unknown extension.
 * Parameters are ignored, and so is `x-`, which some lists of types have where others do not.
 */
export function contradicts(name: string, type: string): boolean {
  const known = typeOfName(name);
  const plain = (text: string) =>
    text
      .replace(/;.*/, "")
      .trim()
      .toLowerCase()
      .replace(/\/x-(ms-)?/, "/");
  return known !== undefined && plain(known) !== plain(type);
}

function typeOfName(name: string): string | undefined {
  const type = Bun.file(`file.${extensionOf(name)}`).type.replace(/;.*/, "");
  return type === "application/octet-stream" ? undefined : type;
}

/** Extensions that Resend refuses: resend.com/docs/knowledge-base/what-attachment-types-are-not-supported. */
export const refusedByResend = words(`
  adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib lnk mad maf
  mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml msh2xml msi msp mst ops
  pcd pif plg prf prg reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp url vb vbe vbs vps vsmacros vss
  vst vsw vxd ws wsc wsf wsh xnk`);

/** Extensions that Postmark refuses: postmarkapp.com/developer/user-guide/send-email-with-api. */
export const refusedByPostmark = words(`
  vbs exe bin bat chm com cpl crt hlp hta inf ins isp jse lnk mdb pcd pif reg scr sct shs vbe vba wsf wsh wsl msc msi
  msp mst`);

function words(text: string): ReadonlySet<string> {
  return new Set(text.trim().split(/\s+/));
}
