#!/bin/sh
# SPDX-License-Identifier: MIT
# Judges what prepare.sh has built in the work folder (the current one). Exit status 77: no GPU here.
set -eu
device=$(./baseline probe) || exit 77
echo "GPU: $device"
exec ./judge --device --task "$(cat task)" --submission ./kernel --baseline ./baseline \
	--compiler "$(cat compiler), $device" --output "$ZR_OUTPUT"
