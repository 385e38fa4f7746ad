# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# What every script of this folder needs: messages, waiting, random words, processes known by pid and start time.

# The programs of a minimal system that live in sbin are not on every user's PATH.
export PATH="$PATH:/usr/sbin:/sbin"

say() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
	say "$*"
	exit 1
}

die_usage() {
	say "$*"
	exit 2
}

random_hex() { # random_hex BYTES
	od -An -v -tx1 -N"$1" /dev/urandom | tr -d ' \n'
}

now_ms() {
	local t=${EPOCHREALTIME/[.,]/}
	echo $((t / 1000))
}

# Calls "$@" every 50 ms until it succeeds; fails after SECONDS.
wait_until() { # wait_until SECONDS COMMAND...
	local end=$(($(now_ms) + $1 * 1000))
	shift
	until "$@"; do
		(($(now_ms) < end)) || return 1
		sleep 0.05
	done
}

# A process is known by its pid and its start time (clock ticks since boot): a reused pid has another start time.

# Sets PROC_STATE, PROC_PPID, PROC_START of a live pid; fails if there is none.
proc_stat() { # proc_stat PID
	local line
	{ read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
	# The command name may hold blanks and brackets: what counts stands after its last ')'.
	# shellcheck disable=SC2086
	set -- ${line##*) }
	PROC_STATE=$1 PROC_PPID=$2 PROC_START=${20}
}

proc_id() { # proc_id PID: one word that names this very process
	proc_stat "$1" && echo "$1:$PROC_START"
}

# A zombie is dead: where nobody reaps (a container's idle pid 1) it would stay for ever.
proc_alive() { # proc_alive PID:START
	proc_stat "${1%%:*}" && [[ $PROC_START == "${1##*:}" && $PROC_STATE != [ZX] ]]
}

none_alive() { # none_alive PID:START...
	local p
	for p; do
		! proc_alive "$p" || return 1
	done
}

signal_all() { # signal_all SIGNAL PID:START...
	local p sig=$1
	shift
	for p; do
		! proc_alive "$p" || kill -s "$sig" "${p%%:*}" 2>/dev/null || true
	done
}

# Prints PID:START of the given processes, then of all that descend from them, parents first.
proc_tree() { # proc_tree PID:START...
	local -A parent=() known=()
	local p f grown=1 order=()
	for f in /proc/[0-9]*; do
		! proc_stat "${f#/proc/}" || parent[${f#/proc/}:$PROC_START]=$PROC_PPID
	done
	for p; do
		if proc_alive "$p"; then
			known[${p%%:*}]=1
			order+=("$p")
		fi
	done
	while ((grown)); do
		grown=0
		for p in "${!parent[@]}"; do
			[[ -n ${known[${parent[$p]}]:-} && -z ${known[${p%%:*}]:-} ]] || continue
			known[${p%%:*}]=1
			order+=("$p")
			grown=1
		done
	done
	((${#order[@]} == 0)) || printf '%s\n' "${order[@]}"
}
