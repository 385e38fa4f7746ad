#!/bin/sh
# SPDX-License-Identifier: MIT
# Judges what prepare.sh has built in the work folder (the current one).
set -eu
exec ./judge --task "$(cat task)" --submission ./kernel --baseline ./baseline \
	--compiler "$(cat compiler)" --output "$ZR_OUTPUT"
