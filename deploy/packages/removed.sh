#!/bin/sh
# After the package is removed. Data and configuration stay until Debian's package is purged. The account stays, because
# another one with its number must not be able to read a copy of the data.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "$1" = purge ]; then
	rm -rf /var/lib/cardea || true # it says why, such as for a disk of its own
fi
