# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# What zr needs to use the services: zr.conf, the folders it names, the environment. A sandbox is one more set of these on
# the same servers: a virtual host, a database, folders. A host is a name with a state folder: evaluation hosts of a
# sandbox share the sshd and differ in their folders.

DEV_HOST=devhost

conf_hosts() { # conf_hosts BASE HOST...
	local base=$1 h
	shift
	for h; do
		cat <<-END

			host "$h" {
			    address = "127.0.0.1"
			    port = ${STATE[ssh_port]}
			    user = "${STATE[ssh_user]}"
			    state_dir = "$(host_folder "$base" "$h")/zr"
			}
		END
	done
}

# The first host is also the API host and has BASE itself.
host_folder() { # host_folder BASE HOST
	if [[ $2 == "$DEV_HOST" ]]; then
		echo "$1"
	else
		echo "$1/hosts/$2"
	fi
}

# Writes one host's folder with its zr.conf.
conf_write() { # conf_write BASE HOST VHOST DATABASE ALL-HOSTS...
	local base=$1 host=$2 vhost=$3 database=$4 folder
	shift 4
	folder=$(host_folder "$base" "$host")
	(umask 022 && mkdir -p "$folder/zr" "$folder/run/gpu")
	cat >"$folder/zr.conf" <<-END
		# Written by scripts/dev for services that live in $DIR
		hostname = "$host"
		state_dir = "$folder/zr"
		run_dir = "$folder/run"
		bin_dir = "$base/bin"
		gpu_lock_dir = "$folder/run/gpu"
		amqp_url = "$(amqp_url "$vhost")"
		database_url = "$(database_url "$database")"
		ssh_key = "$DIR/ssh/collect_key"
		ssh_known_hosts = "$DIR/ssh/known_hosts"
		$(conf_hosts "$base" "$@")
	END
}

# The shipped evaluators as a folder that a test may change.
copy_evaluators() { # copy_evaluators TO
	(umask 022 && mkdir -p "$1")
	[[ ! -d $ROOT/scripts/bin ]] || cp -R --preserve=mode,timestamps "$ROOT/scripts/bin/." "$1/"
	chmod -R u+w "$1"
}

print_env() { # print_env BASE VHOST DATABASE
	local base=$1
	printf 'export %s=%q\n' \
		ZR_CONF "$base/zr.conf" \
		ZR_BIN "$base/bin" \
		AMQP_URL "$(amqp_url "$2")" \
		DATABASE_URL "$(database_url "$3")" \
		ZR_SSH_PORT "${STATE[ssh_port]}" \
		ZR_DEV_DIR "$DIR" \
		ZR_DEV_SSH_USER "${STATE[ssh_user]}" \
		ZR_DEV_SSH_KEY "$DIR/ssh/collect_key" \
		ZR_DEV_SHELL_KEY "$DIR/ssh/shell_key" \
		ZR_DEV_KNOWN_HOSTS "$DIR/ssh/known_hosts"
	# Quoted with the caller's PATH left to the caller's shell: eval twice and it still has one build folder in front.
	# shellcheck disable=SC2016
	printf 'case $PATH in %q:*) ;; *) export PATH=%q:"$PATH" ;; esac\n' "$ZR_BUILD" "$ZR_BUILD"
}

sandbox_check_name() {
	[[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$ ]] ||
		die_usage "'$1' cannot name a sandbox or a host: up to 48 letters, digits, '_' and '-', no '-' or '_' in front"
}

sandbox_make() { # sandbox_make NAME HOST...
	local name=$1 h base=$DIR/sandbox/$1
	shift
	[[ ! -e $base ]] || die "sandbox '$name' is already there"
	mkdir -p "$base"
	copy_evaluators "$base/bin"
	for h in "$DEV_HOST" "$@"; do
		conf_write "$base" "$h" "sb.$name" "sb_$name" "$DEV_HOST" "$@"
	done
	if ! { rabbitmq_vhost_add "sb.$name" && postgres_database_add "sb_$name"; }; then
		sandbox_drop "$name"
		die "cannot make sandbox '$name'"
	fi
}

sandbox_drop() { # sandbox_drop NAME
	rabbitmq_vhost_drop "sb.$1" || say "virtual host sb.$1 stays"
	postgres_database_drop "sb_$1" || say "database sb_$1 stays"
	remove_tree "$DIR/sandbox/$1"
}

# A cached submission is read-only, and rm needs to write the folders it empties.
remove_tree() { # remove_tree PATH...
	local p
	for p; do
		[[ ! -d $p || -L $p ]] || chmod -R u+rwX "$p" 2>/dev/null || true
		rm -rf -- "$p"
	done
}
