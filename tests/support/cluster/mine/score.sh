ls "$RUNGWISE_CHECKPOINT" >&2
echo '{"loss": 0.5}' >>"$RUNGWISE_REPORTS"
