# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# A private RabbitMQ node: a plain process with its own epmd, both on 127.0.0.1 only, its own cookie, user and folder.

RABBITMQ_BIN=/usr/lib/rabbitmq/bin

rabbitmq_ports() {
	local p
	mapfile -t p < <(free_ports 3)
	STATE["amqp_port"]=${p[0]} STATE["dist_port"]=${p[1]} STATE["epmd_port"]=${p[2]}
}

rabbitmq_new() {
	STATE["node"]=zr-$(random_hex 4)@localhost
	STATE["amqp_password"]=$(random_hex 16)
	rabbitmq_ports
}

# The server reads the attributes of every module it finds, and looks for each in every folder of its plugins: without the
# sixty optional plugins it starts in half the time. A folder of links shows it only the libraries it needs. The start
# script cannot have a blank in its path; then it is the slow way.
rabbitmq_slim_home() {
	local real home=$DIR/rabbitmq/home app
	[[ $DIR != *[[:space:]]* ]] || return 0
	real=$(readlink -f "$RABBITMQ_BIN/rabbitmq-server")
	real=${real%/sbin/rabbitmq-server}
	mkdir -p "$home/plugins"
	ln -sfn "$real/sbin" "$home/sbin"
	ln -sfn "$real/escript" "$home/escript"
	for app in "$real"/plugins/*-[0-9]*; do
		case ${app##*/} in
		rabbitmq_prelaunch-*) ;;
		rabbitmq_*) continue ;;
		esac
		ln -sfn "$app" "$home/plugins/"
	done
}

rabbitmq_configure() {
	local d=$DIR/rabbitmq
	mkdir -p "$d"
	rabbitmq_slim_home
	echo '[].' >"$d/enabled_plugins"
	: >"$d/env.conf"
	if [[ ! -f $d/.erlang.cookie ]]; then
		random_hex 16 >"$d/.erlang.cookie"
		chmod 400 "$d/.erlang.cookie"
	fi
	cat >"$d/rabbitmq.conf" <<-END
		listeners.tcp.1 = 127.0.0.1:${STATE[amqp_port]}
		default_vhost = zr
		default_user = zr
		default_pass = ${STATE[amqp_password]}
		default_user_tags.administrator = true
		vm_memory_high_watermark.absolute = 1GiB
		disk_free_limit.absolute = 50MB
		log.file = false
		log.console = true
		log.console.level = info
	END
	[[ -z ${ZR_DEV_LISTEN:-} ]] || echo "listeners.tcp.2 = $ZR_DEV_LISTEN:${STATE[amqp_port]}" >>"$d/rabbitmq.conf"
}

# Everything that the node and its tools take from the environment. RUNNING_UNDER_SYSTEMD makes the start script become
# the server instead of waiting for it, so that the pid that we recorded is the server's.
rabbitmq_environment() {
	local d=$DIR/rabbitmq loopback='-kernel inet_dist_use_interface {127,0,0,1}'
	export HOME=$d ERL_EPMD_PORT=${STATE[epmd_port]} ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP=$DIR/log/erl_crash.dump
	[[ ! -d $d/home ]] || export RABBITMQ_SCRIPTS_DIR=$d/home/sbin
	export RABBITMQ_NODENAME=${STATE[node]} RABBITMQ_DIST_PORT=${STATE[dist_port]}
	export RABBITMQ_MNESIA_BASE=$d/mnesia RABBITMQ_LOG_BASE=$DIR/log RABBITMQ_PID_FILE=$d/pid
	export RABBITMQ_CONFIG_FILE=$d/rabbitmq.conf RABBITMQ_CONFIG_FILES=$d/conf.d RABBITMQ_ADVANCED_CONFIG_FILE=$d/advanced.config
	export RABBITMQ_ENABLED_PLUGINS_FILE=$d/enabled_plugins RABBITMQ_CONF_ENV_FILE=$d/env.conf
	export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 -start_epmd false $loopback"
	export RABBITMQ_CTL_ERL_ARGS=$loopback RUNNING_UNDER_SYSTEMD=true RABBITMQ_LOG=-color
}

rabbitmq_epmd_up() {
	is_alive epmd || spawn epmd "$DIR/rabbitmq" epmd -port "${STATE[epmd_port]}" -address 127.0.0.1
	wait_until 10 tcp_open "${STATE[epmd_port]}"
}

# The node opens its port before its last start-up step: the log line of this start and an answer to an AMQP header count.
rabbitmq_answers() {
	local first
	{ exec 3<>"/dev/tcp/127.0.0.1/${STATE[amqp_port]}"; } 2>/dev/null || return 1
	printf 'AMQP\0\0\11\1' >&3
	IFS= LC_ALL=C read -r -N 1 -t 5 first <&3 && [[ $first == $'\1' ]]
}

rabbitmq_ready_since() { # rabbitmq_ready_since OFFSET (bytes of the log that older starts wrote)
	tail -c "+$(($1 + 1))" "$DIR/log/rabbitmq.log" | grep -q 'Server startup complete' && (rabbitmq_answers)
}

rabbitmq_ready() {
	is_alive rabbitmq && is_alive epmd && (rabbitmq_answers)
}

rabbitmq_settled() { # rabbitmq_settled OFFSET: ready, or dead and not worth waiting for
	! is_alive rabbitmq || rabbitmq_ready_since "$1"
}

rabbitmq_start() (
	rabbitmq_environment
	rabbitmq_epmd_up || return 1
	touch "$DIR/log/rabbitmq.log"
	offset=$(stat -c %s "$DIR/log/rabbitmq.log")
	spawn rabbitmq "$DIR/rabbitmq" "$RABBITMQ_BIN/rabbitmq-server"
	wait_until 90 rabbitmq_settled "$offset" && is_alive rabbitmq
)

rabbitmq_processes() {
	local roots
	mapfile -t roots < <(pid_of rabbitmq || true; pid_of epmd || true
		strays rabbitmq beam.smp epmd erl_child_setup inet_gethost)
	proc_tree "${roots[@]}"
}

rabbitmq_end() { # rabbitmq_end SIGNAL SECONDS
	local all node
	mapfile -t all < <(rabbitmq_processes)
	# A clean stop asks the node alone and takes its helpers along; epmd never ends by itself.
	if node=$(pid_of rabbitmq) && [[ $1 != KILL ]]; then
		end_processes "$1" "$2" "$node"
	fi
	end_processes KILL 10 "${all[@]}"
}

rabbitmq_stop() { rabbitmq_end TERM 60; }
rabbitmq_kill() { rabbitmq_end KILL 10; }
# The folder goes away with it: a clean stop would only take longer.
rabbitmq_discard() { rabbitmq_end KILL 10; }

# Evaluates Erlang in the node: some 10 ms, where rabbitmqctl takes two seconds.
# Calls at the same time need names of their own (-r), and a busy node may refuse one: nothing was evaluated then.
rabbitmq_call() { # rabbitmq_call EXPRESSIONS
	local try
	rabbitmq_environment
	for try in 1 2 3 4 5; do
		erl_call -r -sname "$RABBITMQ_NODENAME" -e <<<"$1" && return 0
		sleep "0.$try"
	done
	return 1
}

rabbitmq_eval() { # rabbitmq_eval EXPRESSIONS, ended with a full stop
	local out
	out=$(rabbitmq_call "$1") || return 1
	[[ $out == '{ok, '* ]] || {
		say "rabbitmq: $out"
		return 1
	}
	out=${out#'{ok, '}
	printf '%s\n' "${out%\}}"
}

rabbitmq_ctl() (
	rabbitmq_environment
	unset RUNNING_UNDER_SYSTEMD
	cd "$DIR/rabbitmq" || exit 1
	exec "$RABBITMQ_BIN/rabbitmqctl" "$@"
)

rabbitmq_vhost_add() { # rabbitmq_vhost_add NAME
	[[ $(rabbitmq_eval "rabbit_vhost:add(<<\"$1\">>, <<\"zr\">>), All = <<\".*\">>,
		rabbit_auth_backend_internal:set_permissions(<<\"zr\">>, <<\"$1\">>, All, All, All, <<\"zr\">>).") == ok ]]
}

rabbitmq_vhost_drop() { # rabbitmq_vhost_drop NAME
	rabbitmq_eval "case rabbit_vhost:exists(<<\"$1\">>) of true -> rabbit_vhost:delete(<<\"$1\">>, <<\"zr\">>); _ -> ok end." >/dev/null
}

amqp_url() { # amqp_url VHOST
	echo "amqp://zr:${STATE[amqp_password]}@127.0.0.1:${STATE[amqp_port]}/$1"
}
