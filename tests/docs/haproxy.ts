// HAProxy on the machine of a test, as Debian's package leaves it: the tests have the program alone.

import type { Machine } from "./machine.ts";

const unit = `[Service]
Type=notify
ExecStart=/usr/bin/env haproxy -Ws -f /etc/haproxy/haproxy.cfg
ExecReload=/usr/bin/env haproxy -Ws -f /etc/haproxy/haproxy.cfg -c -q
ExecReload=/bin/kill -USR2 $MAINPID
KillMode=mixed
SuccessExitStatus=143
`;

/** Also gives the machine the addresses of both hosts in deploy/haproxy.cfg, and the file that it begins with. */
export async function installHaproxy({ run }: Machine): Promise<void> {
  await run(`useradd --system --no-create-home haproxy
    mkdir -p /etc/haproxy /var/lib/haproxy /run/haproxy
    printf 'defaults\\n timeout connect 5s\\n timeout client 5s\\n timeout server 5s\\n' > /etc/haproxy/haproxy.cfg
    printf 'frontend old\\n mode http\\n bind 127.0.0.1:80\\n' >> /etc/haproxy/haproxy.cfg
    ip address add 10.0.0.11/32 dev lo
    ip address add 10.0.0.12/32 dev lo`);
  await run("cat > /etc/systemd/system/haproxy.service", { typed: unit });
  await run("systemctl daemon-reload && systemctl start haproxy");
}

export async function makeCertificate({ run }: Machine): Promise<void> {
  await run(
    "openssl req -x509 -newkey ed25519 -nodes -subj /CN=mail.example.com -keyout /etc/ssl/mail.example.com.key -out /etc/ssl/mail.example.com.pem",
  );
}
