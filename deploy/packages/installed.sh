#!/bin/sh
# After the package is installed or upgraded. The service is not started at first, because its issuer must be set before.
set -e
if ! getent passwd cardea >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/cardea --no-create-home --shell /usr/sbin/nologin cardea
fi
# An operator may have removed the file. At an upgrade rpm brings it back, and dpkg does not.
for file in /etc/cardea /etc/cardea/cardea.yaml; do
	if [ -e "$file" ]; then
		chgrp cardea "$file"
	fi
done
# The service would make it, but commands may come first, such as `cardea config check`.
if [ ! -e /var/lib/cardea ]; then
	install -d -m 0700 -o cardea -g cardea /var/lib/cardea
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart cardea.service
fi
