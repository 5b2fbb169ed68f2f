use IO::Socket::INET; $| = 1; $SIG{PIPE} = "IGNORE";
my $down = 0; my $n = $ENV{LB_INSTANCE};
my $s = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 128, ReuseAddr => 1) or die "listen: $!";
print "listening on $ARGV[0]\n";
while (1) {
  my $c = $s->accept or next; my $first = <$c> // next;
  while (<$c>) { last if /^\r?$/ }
  $down = 1 if $first =~ m{^POST /api/v1/_crash};
  my $body = $first =~ m{^GET /load} ? '{"busy": 95}' : $n;
  my $status = $down ? "500 Internal Server Error" : "200 OK";
  print $c "HTTP/1.1 $status\r\nx-real: $n\r\nContent-Length: ", length $body, "\r\nConnection: close\r\n\r\n$body"; close $c;
}
