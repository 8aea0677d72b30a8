FROM ruby:3.4 AS parent
ONBUILD COPY Gemfile Gemfile.lock /usr/src/app/
ONBUILD RUN <<EOF
bundle config set frozen true
bundle install
EOF
ONBUILD COPY . /usr/src/app

FROM parent
RUN rake assets:precompile
