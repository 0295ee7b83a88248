// The email of all benchmarks.

export const email = {
  subject: "Your order has been shipped",
  body: `Dear Jane,\n\nyour order 17 is on its way.\n\n${"It will be with you soon. ".repeat(18)}`,
  to: "jane@example.org",
  to_name: "Jane Doe",
};

/** As a client submits it: 600 bytes. */
export const form = new URLSearchParams(email).toString();

/** As it is stored and sent. */
export const completeEmail = { ...email, from: "shop@example.com" };
