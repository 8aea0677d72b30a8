#!/usr/bin/perl
use strict;
use warnings;

my %weight;
while (<>) {
    chomp;
    my ($what, $number) = split /,/;
    $weight{$what} += $number;
}
my $total = 0;
for my $what (sort keys %weight) {
    printf "%-8s %4d\n", $what, $weight{$what};
    $total += $weight{$what};
}
print "total $total\n";
