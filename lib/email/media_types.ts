// Media types of file name extensions. Providers know types by extension too, and Resend never sends a file that is declared
// with another: no extension that it may know must count as unknown here.

/** Extensions that mime-db 1.54.0 knows, from which most such tables are made, and Bun does not. */
const missing: Readonly<Record<string, string>> = {
  "application/octet-stream": "dms lrf so dist distz pkg bpk dump elc deploy img msm buffer",
  "application/appinstaller": "appinstaller",
  "application/appx": "appx",
  "application/appxbundle": "appxbundle",
  "application/automationml-aml+xml": "aml",
  "application/automationml-amlx+zip": "amlx",
  "application/cwl": "cwl",
  "application/dicom": "dcm",
  "application/msix": "msix",
  "application/msixbundle": "msixbundle",
  "application/onenote": "one onea",
  "application/prs.xsf+xml": "xsf",
  "application/vnd.autodesk.fbx": "fbx",
  "application/vnd.dcmp+xml": "dcmp",
  "application/vnd.geogebra.slides": "ggs",
  "application/vnd.google-apps.drawing": "gdraw",
  "application/vnd.google-apps.form": "gform",
  "application/vnd.google-apps.jam": "gjam",
  "application/vnd.google-apps.map": "gmap",
  "application/vnd.google-apps.script": "gscript",
  "application/vnd.google-apps.site": "gsite",
  "application/vnd.gov.sk.xmldatacontainer+xml": "xdcf",
  "application/vnd.hydrostatix.sof-data": "sfd-hdstx",
  "application/vnd.ms-visio.viewer": "vdx",
  "application/vnd.nato.bindingdataobject+xml": "bdo",
  "application/vnd.nokia.n-gage.symbian.install": "n-gage",
  "application/vnd.procrate.brushset": "brushset",
  "application/vnd.procreate.brush": "brush",
  "application/vnd.procreate.dream": "drm",
  "application/vnd.pwg-xhtml-print+xml": "xhtm",
  "application/vnd.uoml+xml": "uo",
  "application/vnd.visio": "vsdx vtx",
  "application/x-blender": "blend",
  "application/x-ipynb+json": "ipynb",
  "application/x-virtualbox-vbox-extpack": "vbox-extpack",
  "application/zip+dotlottie": "lottie",
  "audio/aac": "adts",
  "audio/mp4": "m4b",
  "image/bmp": "dib",
  "image/dpx": "dpx",
  "image/jaii": "jaii",
  "image/jais": "jais",
  "image/jxl": "jxl",
  "image/pjpeg": "jfif",
  "image/prs.btif": "btf",
  "image/x-adobe-dng": "dng",
  "message/disposition-notification": "disposition-notification",
  "message/rfc822": "mht mhtml",
  "model/jt": "jt",
  "model/step": "step stp stpnc p21 210",
  "model/vnd.bary": "bary",
  "model/vnd.cld": "cld",
  "model/vnd.pytha.pyox": "pyo pyox",
  "model/vnd.usda": "usda",
  "text/wgsl": "wgsl",
  "video/mp2t": "m2t m2ts",
};

const missingTypes: ReadonlyMap<string, string> = new Map(
  Object.entries(missing).flatMap(([type, extensions]) =>
    extensions.split(" ").map((extension): [string, string] => [extension, type]),
  ),
);

/** The type of an extension in lower case, without parameters; undefined if it is unknown. */
export function typeOfExtension(extension: string): string | undefined {
  if (!/^[a-z0-9-]{1,30}$/.test(extension)) return undefined;
  const type = Bun.file(`a.${extension}`).type.replace(/;.*/, "");
  return type === "application/octet-stream" ? missingTypes.get(extension) : type;
}
