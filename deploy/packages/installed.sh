#!/bin/sh
# After the package is installed or upgraded. The service is not started at first, because its issuer must be set before.
set -e
if ! getent passwd cardea >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/cardea --no-create-home --shell /usr/sbin/nologin cardea
fi
chgrp cardea /etc/cardea /etc/cardea/cardea.yaml
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart cardea.service
fi
