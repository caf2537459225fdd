#!/bin/sh
# Before the package is removed, not before it is upgraded. Data and configuration stay.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now cardea.service
	fi
	;;
esac
