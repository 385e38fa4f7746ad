# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# A private sshd with keys of its own. Two keys may log in as the user who runs it: `collect_key`, which gets sftp and
# nothing else (what zr uses), and `shell_key`, which gets a shell (what tests and benchmarks compare with).

sshd_new() {
	STATE["ssh_port"]=$(free_ports 1)
	STATE["ssh_user"]=$(id -un)
}

sshd_ports() {
	STATE["ssh_port"]=$(free_ports 1)
}

sshd_keys() {
	local d=$DIR/ssh k
	for k in host_key collect_key shell_key; do
		[[ -f $d/$k ]] || ssh-keygen -q -t ed25519 -N '' -C "zr-dev-$k" -f "$d/$k" </dev/null || return 1
	done
	{
		echo "restrict,command=\"internal-sftp\" $(<"$d/collect_key.pub")"
		cat "$d/shell_key.pub"
	} >"$d/authorized_keys"
	echo "[127.0.0.1]:${STATE[ssh_port]} $(cut -d' ' -f1,2 "$d/host_key.pub")" >"$d/known_hosts"
}

# Without PAM sshd refuses an account whose password field starts with '!', as root's does on some installations.
sshd_use_pam() {
	if ((EUID == 0)) && [[ $(getent shadow "$(id -un)" | cut -d: -f2) == '!'* ]]; then
		echo yes
	else
		echo no
	fi
}

# StrictModes would refuse a key file below /tmp; the folder is ours alone.
sshd_configure() {
	local d=$DIR/ssh
	mkdir -p "$d"
	sshd_keys >>"$DIR/log/sshd.log" 2>&1 || return 1
	cat >"$d/sshd_config" <<-END
		ListenAddress 127.0.0.1:${STATE[ssh_port]}
		AddressFamily inet
		HostKey "$d/host_key"
		AuthorizedKeysFile "$d/authorized_keys"
		PidFile none
		StrictModes no
		UsePAM $(sshd_use_pam)
		AllowUsers ${STATE[ssh_user]}
		PermitRootLogin prohibit-password
		AuthenticationMethods publickey
		PasswordAuthentication no
		KbdInteractiveAuthentication no
		UseDNS no
		PrintMotd no
		PrintLastLog no
		X11Forwarding no
		AllowAgentForwarding no
		MaxStartups 200
		MaxSessions 100
		LoginGraceTime 30
		LogLevel VERBOSE
		Subsystem sftp internal-sftp
	END
	[[ -z ${ZR_DEV_LISTEN:-} ]] || echo "ListenAddress $ZR_DEV_LISTEN:${STATE[ssh_port]}" >>"$d/sshd_config"
	# Debian's own unit makes this folder, which sshd needs as root, at each start; it stays empty.
	((EUID != 0)) || (umask 022 && mkdir -p /run/sshd)
}

sshd_answers() {
	local line
	{ exec 3<>"/dev/tcp/127.0.0.1/${STATE[ssh_port]}"; } 2>/dev/null || return 1
	IFS= read -r -t 5 line <&3 && [[ $line == SSH-2.0-* ]]
}

sshd_ready() {
	is_alive sshd && (sshd_answers)
}

sshd_settled() {
	! is_alive sshd || (sshd_answers)
}

sshd_start() {
	spawn sshd "$DIR/ssh" /usr/sbin/sshd -D -e -f "$DIR/ssh/sshd_config"
	wait_until 20 sshd_settled && is_alive sshd
}

holds_socket() { # holds_socket /proc/PID LINES
	find "$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null | grep -qxF "$2"
}

# A session outlives its listener and hides its environment: it is found by its connection to our port.
sshd_sessions() {
	local port f comm inodes
	port=$(printf ':%04X' "${STATE[ssh_port]}")
	inodes=$(awk -v port="$port" '$2 ~ port "$" && $10 { print "socket:[" $10 "]" }' /proc/net/tcp)
	for f in /proc/[0-9]*; do
		if { read -r comm <"$f/comm"; } 2>/dev/null && [[ $comm == sshd ]] && holds_socket "$f" "$inodes"; then
			proc_id "${f#/proc/}" || true
		fi
	done
}

sshd_end() { # sshd_end SIGNAL SECONDS
	local roots all
	mapfile -t roots < <(pid_of sshd || true; sshd_sessions)
	mapfile -t all < <(proc_tree "${roots[@]}")
	end_processes "$1" "$2" "${all[@]}"
}

sshd_stop() { sshd_end TERM 10; }
sshd_kill() { sshd_end KILL 10; }
sshd_discard() { sshd_end TERM 5; }
